"""Which of the passages found go into the prompt: best first, each whole, while there is room.

A model reads the beginning of a context best (Liu et al. 2023, arXiv 2307.03172), so the best
passage comes first; a passage that does not fit is passed over for a shorter one after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from llmwright.core import Hit

MAX_CONTEXT = 6000
"""Characters of passages in a prompt, by default: about 1,500 tokens of English."""


def arrange(
    hits: Sequence[Hit], most: int = MAX_CONTEXT, measure: Callable[[str], int] = len
) -> tuple[Hit, ...]:
    """The passages that fit into ``most`` units of ``measure``. Where not even the best fits, as
    much of its beginning as does: an answer from half a passage is better than none."""
    chosen: list[Hit] = []
    room = most
    for hit in hits:
        size = measure(hit.chunk.text) + measure(hit.chunk.heading)
        if size <= room:
            chosen.append(hit)
            room -= size
    if not chosen and hits:
        chosen.append(_shortened(hits[0], most, measure))
    return tuple(chosen)


def _shortened(hit: Hit, most: int, measure: Callable[[str], int]) -> Hit:
    """The longest beginning of a passage of at most ``most``, cut at a space where there is one."""
    low, high = 0, len(hit.chunk.text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if measure(hit.chunk.text[:middle]) <= most else (low, middle - 1)
        )
    space = hit.chunk.text.rfind(" ", 0, low)
    length = space if space > low // 2 else low
    chunk = replace(hit.chunk, text=hit.chunk.text[:length], end=hit.chunk.start + length)
    return replace(hit, chunk=chunk)
