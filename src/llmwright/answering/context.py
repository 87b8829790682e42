"""Which of the passages found go into the prompt, how much of each, and in which order.

The steps, each off until asked for but the budget: overlapping hits of a document become one
passage (`passages`); what a better passage already says is dropped; passages are compressed until
they fit (`extraction`, `token_compression`); passages are taken, best first and each whole, while
there is room; and the best go to both ends.

A model reads the beginning and the end of a context better than its middle (Liu et al. 2023,
"Lost in the Middle", arXiv 2307.03172). With ``order="ends"`` passages ranked 1, 2, 3, 4, 5 stand
as 1, 3, 5, 4, 2. How much that matters depends on the model; for the small embedded one measure it
first (``benchmarks/rag_eval.py``).

Costs microseconds a passage, and what the compressor costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from llmwright.answering.passages import Passage, cut, merge_overlaps
from llmwright.core import ConfigurationError, Hit

MAX_CONTEXT = 6000
"""Characters of passages in a prompt, by default: about 1,500 tokens of English."""

Count = Callable[[str], int]
"""How long a text is: ``len`` counts characters, a tokenizer's ``count`` tokens."""


class Compressor(Protocol):
    """Shortens passages until they measure at most ``budget``; those of which nothing is left are
    left out."""

    def __call__(
        self, question: str, passages: Sequence[Passage], budget: int, count: Count
    ) -> list[Passage]: ...


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """How the context is built.

    ``budget`` bounds passages with their headings, in what ``count`` counts. ``merge`` joins
    overlapping spans of a document. ``duplicates`` drops a passage whose runs of three words
    stand, to this share, in a better one; None keeps all. ``compress`` shortens passages that
    are more than the budget. Raises ``ConfigurationError`` for a budget below 1.
    """

    budget: int = MAX_CONTEXT
    count: Count = len
    merge: bool = False
    duplicates: float | None = None
    compress: Compressor | None = None
    order: Literal["best first", "ends"] = "best first"

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ConfigurationError(
                f"budget is {self.budget}", where="context", fix="it must be at least 1"
            )
        if self.order not in ("best first", "ends"):
            raise ConfigurationError(
                f"order is {self.order!r}", where="context", fix='use "best first" or "ends"'
            )


def build_context(
    question: str, hits: Sequence[Hit], settings: ContextSettings | None = None
) -> tuple[Passage, ...]:
    """The passages for a prompt, in its order."""
    settings = settings or ContextSettings()
    if settings.merge:
        hits = merge_overlaps(hits)
    if settings.duplicates is not None:
        from llmwright.retrieval.ranking.duplicates import drop_near_duplicates

        hits = drop_near_duplicates(hits, threshold=settings.duplicates)
    passages = [Passage.whole(hit) for hit in hits]
    if settings.compress is not None and measure(passages, settings.count) > settings.budget:
        passages = settings.compress(question, passages, settings.budget, settings.count)
    chosen = _fitting(passages, settings.budget, settings.count)
    if settings.order == "ends":
        chosen = [*chosen[::2], *reversed(chosen[1::2])]
    return tuple(chosen)


def arrange(hits: Sequence[Hit], most: int = MAX_CONTEXT) -> tuple[Hit, ...]:
    """The passages that fit into ``most`` characters with their headings. Where not even the best
    fits, as much of its beginning as does: an answer from half a passage is better than none."""
    return tuple(passage.hit for passage in _fitting(list(map(Passage.whole, hits)), most, len))


def measure(passages: Sequence[Passage], count: Count) -> int:
    """What passages take of a budget: their texts and headings."""
    return sum(count(p.shown.chunk.text) + count(p.hit.chunk.heading) for p in passages)


def _fitting(passages: Sequence[Passage], budget: int, count: Count) -> list[Passage]:
    chosen: list[Passage] = []
    room = budget
    for passage in passages:
        size = measure([passage], count)
        if size <= room:
            chosen.append(passage)
            room -= size
    if not chosen and passages:
        chosen.append(Passage.whole(_shortened(passages[0].hit, budget, count)))
    return chosen


def _shortened(hit: Hit, most: int, count: Count) -> Hit:
    """The beginning of a passage that fits, cut at a space where there is one in its latter half;
    a character at least."""
    text = hit.chunk.text
    low, high = 1, len(text)  # the longest beginning that fits, by bisection
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[:middle]) <= most else (low, middle - 1)
    space = text.rfind(" ", 0, low + 1)
    return cut(hit, hit.chunk.start, hit.chunk.start + (space if space > low // 2 else low))
