"""One family of errors. Each says what is wrong, where, and the way out.

The command line prints the sentence and exits with ``exit_code``: 2 for bad usage or input,
1 for a gate or check that failed. Nothing else in the project formats an error.
"""

from __future__ import annotations


class LLMwrightError(Exception):
    """Base of all errors that a user can cause and mend.

    ``what`` is one clause without a full stop, ``where`` a file with its line, a field or an
    address, ``fix`` what to do, as one clause.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(str(self))

    @property
    def message(self) -> str:
        """What is wrong and the way out, without where, which may be a path of this machine."""
        return f"{self.what}; {self.fix}" if self.fix else self.what

    def __str__(self) -> str:
        return f"{self.where}: {self.message}." if self.where else f"{self.message}."

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments cross processes too
        return _rebuild, (type(self), self.what, self.where, self.fix)


def _rebuild(kind: type[LLMwrightError], what: str, where: str, fix: str) -> LLMwrightError:
    return kind(what, where=where, fix=fix)


class InputError(LLMwrightError):
    """A document, record or file that cannot be read as what it should be."""


class RecipeError(LLMwrightError):
    """A recipe that names something wrong."""


class ConfigurationError(LLMwrightError):
    """A parameter out of its range, or two that contradict each other."""


class ModelSourceError(LLMwrightError):
    """A model that cannot be found, fetched or read."""


class MissingDependencyError(LLMwrightError):
    """An extra that is not installed."""


class UpstreamError(LLMwrightError):
    """A remote service that failed, timed out or answered nonsense."""


class CapacityError(LLMwrightError):
    """Work refused because it does not fit: too long, too large, too many."""


class ContextLengthError(CapacityError):
    """A text longer than a model's context: unlike other want of room, it will not pass."""


class GateError(LLMwrightError):
    """A quality gate that was not met."""

    exit_code = 1
