"""Which of the passages found go into the prompt: best first, each whole, while there is room.

A model reads the beginning of a context best (Liu et al. 2023, arXiv 2307.03172), so the best
passage comes first; a passage that does not fit is passed over for a shorter one after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmwright.core import Hit

MAX_CONTEXT = 6000
"""Characters of passages in a prompt, by default: about 1,500 tokens of English."""


def arrange(hits: Sequence[Hit], most: int = MAX_CONTEXT) -> tuple[Hit, ...]:
    """The passages that fit into ``most`` characters with their headings. Where not even the best
    fits, as much of its beginning as does: an answer from half a passage is better than none."""
    chosen: list[Hit] = []
    room = most
    for hit in hits:
        size = len(hit.chunk.text) + len(hit.chunk.heading)
        if size <= room:
            chosen.append(hit)
            room -= size
    if not chosen and hits:
        chosen.append(_shortened(hits[0], most))
    return tuple(chosen)


def _shortened(hit: Hit, most: int) -> Hit:
    """The beginning of a passage, cut at a space where there is one in its latter half."""
    space = hit.chunk.text.rfind(" ", 0, most + 1)
    text = hit.chunk.text[: space if space > most // 2 else most]
    return replace(hit, chunk=replace(hit.chunk, text=text, end=hit.chunk.start + len(text)))
