"""How documents are cut, as one checked object that an index can remember."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from llmwright.core import ConfigurationError

Strategy = Literal[
    "recursive", "fixed", "structure", "sentence", "semantic", "parent-child", "late"
]
Breakpoint = Literal["percentile", "deviation", "gradient"]

DEFAULT_SIZE = 220
DEFAULT_OVERLAP = 0
_WHERE = "chunking"
_THRESHOLDS = {"percentile": 95.0, "deviation": 3.0, "gradient": 95.0}


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """``size`` bounds every chunk, ``overlap`` what two neighbours share, both in tokens of the
    counter that cuts.

    Of ``sentence``: ``sentences`` to a chunk, ``sentence_overlap`` of them shared. Of ``semantic``:
    a cut where the distance of neighbouring windows of ``2 * window + 1`` sentences stands out by
    ``breakpoint`` and ``threshold`` (None: 95 for percentiles and gradients, 3 standard
    deviations). Of ``parent-child``: ``size`` is the child's, ``parent_size`` what is given for it.
    ``late`` is cut like ``recursive`` and embedded in the context of the whole document.

    Raises ``ConfigurationError`` for a value out of its range.
    """

    strategy: Strategy = "recursive"
    size: int = DEFAULT_SIZE
    overlap: int = DEFAULT_OVERLAP
    sentences: int = 5
    sentence_overlap: int = 0
    breakpoint: Breakpoint = "percentile"
    threshold: float | None = None
    window: int = 1
    parent_size: int = 4 * DEFAULT_SIZE

    def __post_init__(self) -> None:
        _one_of("strategy", self.strategy, get_args(Strategy))
        _one_of("breakpoint", self.breakpoint, get_args(Breakpoint))
        check_sizes(self.size, self.overlap)
        if self.strategy == "sentence":
            _between("overlap in tokens", self.overlap, 0, 0, "use sentence_overlap")
        _between("number of sentences", self.sentences, 1)
        _between("sentence overlap", self.sentence_overlap, 0, self.sentences - 1)
        _between("window of sentences", self.window, 0)
        highest = None if self.breakpoint == "deviation" else 100
        _between("threshold", self.limit, 0, highest)
        if self.strategy == "parent-child":
            _between("parent size", self.parent_size, self.size)

    @property
    def limit(self) -> float:
        """The threshold, or the usual one of its breakpoint."""
        return _THRESHOLDS[self.breakpoint] if self.threshold is None else self.threshold

    @property
    def needs_embedder(self) -> bool:
        """Whether cutting asks for vectors."""
        return self.strategy == "semantic"

    @property
    def label(self) -> str:
        """The strategy and what sets it apart, short enough for a table."""
        sizes = f"{self.size}/{self.parent_size}" if self.strategy == "parent-child" else self.size
        return f"{self.strategy} {sizes}" + (f"+{self.overlap}" if self.overlap else "")


def check_sizes(size: int, overlap: int) -> None:
    """Raises ``ConfigurationError`` where they are out of range."""
    if size < 1:
        raise ConfigurationError(
            f"the chunk size is {size}", where="chunk size", fix="give 1 or more"
        )
    if not 0 <= overlap <= size // 2:
        raise ConfigurationError(
            f"the chunk overlap is {overlap}",
            where="chunk overlap",
            fix=f"give 0 to {size // 2}, half of the chunk size",
        )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigurationError(
            f"the {name} {value!r} is unknown", where=_WHERE, fix=f"use one of {', '.join(allowed)}"
        )


def _between(
    name: str, value: float, least: float, most: float | None = None, fix: str = ""
) -> None:
    if not (value >= least and (most is None or value <= most)):
        span = f"{least:g} or more" if most is None else f"{least:g} to {most:g}"
        raise ConfigurationError(
            f"the {name} is {value:g}", where=_WHERE, fix=fix or f"give {span}"
        )
