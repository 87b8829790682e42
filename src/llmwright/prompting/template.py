"""A prompt with named places, as a value: checked when made, filled in one pass, hashed.

``{name}`` stands for a value; ``{{`` and ``}}`` stand for braces. Values are put in once and
never looked at again, so a value that holds ``{other}`` stays what it is: a user cannot reach
another variable through it, as ``str.format`` would let him reach attributes. A prompt is part
of what makes an answer good or bad, so it has a digest that a release records.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from llmwright.core import (
    ConfigurationError,
    InputError,
    atomic_write,
    content_hash,
    kind_of,
    read_text,
)

# An escaped brace, a variable, or a brace that is neither.
_PIECE = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")


@dataclass(frozen=True)
class PromptTemplate:
    """Text with ``{name}`` variables.

    >>> PromptTemplate("Translate into {language}: {text}").render(language="French", text="yes")
    'Translate into French: yes'

    Raises ``ConfigurationError`` with the line where a brace belongs to nothing.
    """

    text: str
    name: str = ""

    def __post_init__(self) -> None:
        for piece in _PIECE.finditer(self.text):
            if piece.group() in ("{", "}"):
                line = self.text.count("\n", 0, piece.start()) + 1
                raise ConfigurationError(
                    f"the brace {piece.group()!r} is not part of a {{variable}}",
                    where=f"{self._label}, line {line}",
                    fix=f"write {piece.group() * 2!r} for a brace",
                )

    @property
    def _label(self) -> str:
        return f"prompt {self.name!r}" if self.name else "prompt"

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """The names, each once, in the order of their first place."""
        return tuple(dict.fromkeys(m[1] for m in _PIECE.finditer(self.text) if m[1]))

    @cached_property
    def digest(self) -> str:
        """Hash of the text. The name does not matter: it is not seen by the model."""
        return content_hash(self.text)

    def render(self, **values: str | int | float) -> str:
        """Fill every variable. Raises ``ConfigurationError`` where one is missing, unknown (the
        nearest name is told) or neither a string nor a number."""
        known = set(self.variables)
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, self.variables, n=1)
                offered = ", ".join(self.variables) or "none"
                raise ConfigurationError(
                    f"there is no variable {name!r}",
                    where=self._label,
                    fix=f"did you mean {near[0]!r}?" if near else f"variables are: {offered}",
                )
        missing = [name for name in self.variables if name not in values]
        if missing:
            raise ConfigurationError(
                f"no value for {', '.join(missing)}",
                where=self._label,
                fix=f"give {', '.join(f'{name}=...' for name in missing)}",
            )
        for name, value in values.items():
            if not isinstance(value, str | int | float) or isinstance(value, bool):
                raise ConfigurationError(
                    f"{name} is a {type(value).__name__}",
                    where=self._label,
                    fix="give a string or a number",
                )

        def fill(piece: re.Match[str]) -> str:
            return str(values[piece[1]]) if piece[1] else piece.group()[0]

        return _PIECE.sub(fill, self.text)

    @classmethod
    def load(cls, path: Path) -> PromptTemplate:
        """Read a ``.toml`` file with the keys ``text`` and, if wanted, ``name``; of any other
        file the whole text is the prompt and the file's stem the name."""
        raw = read_text(path)
        if path.suffix.lower() != ".toml":
            return cls(raw, name=path.stem)
        try:
            fields = tomllib.loads(raw)
        except tomllib.TOMLDecodeError as error:
            raise InputError(
                f"not valid TOML: {error}", where=str(path), fix="mend the file there"
            ) from error
        for key, value in fields.items():
            if key not in ("text", "name"):
                raise InputError(
                    f"unknown key {key!r}", where=str(path), fix="a prompt has 'text' and 'name'"
                )
            if not isinstance(value, str):
                raise InputError(
                    f"{key!r} is {kind_of(value)}",
                    where=str(path),
                    fix="it must be a text",
                )
        if "text" not in fields:
            raise InputError("the key 'text' is missing", where=str(path), fix="add it")
        return cls(fields["text"], name=fields.get("name", path.stem))

    def save(self, path: Path) -> None:
        """Write what ``load`` reads back, atomically: TOML for ``.toml``, plain text otherwise."""
        text = self.text
        if path.suffix.lower() == ".toml":
            text = f"name = {_toml_string(self.name)}\ntext = {_toml_text(self.text)}\n"
        with atomic_write(path) as temporary:
            temporary.write_bytes(text.encode("utf-8"))  # bytes: line ends stay as they are


def _toml_string(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_text(text: str) -> str:
    """A multi-line basic string: people edit these files, so lines stay lines."""
    lines = "\n".join(_toml_string(line)[1:-1] for line in text.split("\n"))
    return f'"""\n{lines}"""'
