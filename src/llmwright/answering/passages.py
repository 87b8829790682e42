"""A passage on its way into a prompt: what was found, and which pieces of it the model is shown.

Whatever is left out of a passage, by a cut or by compression, the offsets of what is kept stay
those of the document, so a citation still points to the place that it came from.

Hits of one document that overlap or touch say the same words twice; ``merge_overlaps`` makes one
of them, in the place of the better. Costs a sort of the hits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmwright.core import Hit

Span = tuple[int, int]
"""Start and end, in characters of the document's text."""


@dataclass(frozen=True, slots=True)
class Passage:
    """``hit`` reaches from the first to the last of ``pieces``, which are shown, in their order,
    with ``joint`` where something between them was left out."""

    hit: Hit
    pieces: tuple[Span, ...]
    joint: str = " … "

    @classmethod
    def whole(cls, hit: Hit) -> Passage:
        return cls(hit, ((hit.chunk.start, hit.chunk.end),))

    @property
    def shown(self) -> Hit:
        """The hit with the text that the model reads."""
        chunk = self.hit.chunk
        if len(self.pieces) == 1:
            return self.hit
        texts = [chunk.text[start - chunk.start : end - chunk.start] for start, end in self.pieces]
        return replace(self.hit, chunk=replace(chunk, text=self.joint.join(map(str.strip, texts))))

    def keep(self, pieces: Sequence[Span], joint: str = " … ") -> Passage:
        """The passage with only ``pieces``, given in order and none empty; those with nothing but
        white space between them become one."""
        text, at = self.hit.chunk.text, self.hit.chunk.start
        joined: list[Span] = []
        for start, end in pieces:
            if joined and not text[joined[-1][1] - at : start - at].strip():
                joined[-1] = joined[-1][0], max(end, joined[-1][1])
            else:
                joined.append((start, end))
        return Passage(cut(self.hit, joined[0][0], joined[-1][1]), tuple(joined), joint)


def cut(hit: Hit, start: int, end: int) -> Hit:
    """The part of a hit between two offsets of its document."""
    chunk = hit.chunk
    text = chunk.text[start - chunk.start : end - chunk.start]
    return replace(hit, chunk=replace(chunk, text=text, start=start, end=end))


def merge_overlaps(hits: Sequence[Hit]) -> list[Hit]:
    """Hits of one document whose spans overlap or touch, as one hit over all of them, which
    keeps the id, score and place of the best. A hit whose text is not its span stays alone."""
    merged: list[Hit] = []
    for hit in hits:
        near = [other for other in merged if _joins(other, hit)]
        # A hit between two others joins both.
        for other in near:
            hit = _union(other, hit)
        if near:
            best = near[0]
            chunk = replace(hit.chunk, id=best.chunk.id, heading=best.chunk.heading)
            hit = replace(best, chunk=chunk)
            merged = [hit if other is best else other for other in merged if other not in near[1:]]
        else:
            merged.append(hit)
    return merged


def _joins(a: Hit, b: Hit) -> bool:
    one, two = a.chunk, b.chunk
    return (
        one.document_id == two.document_id
        and max(one.start, two.start) <= min(one.end, two.end)
        and all(len(chunk.text) == chunk.end - chunk.start for chunk in (one, two))
    )


def _union(a: Hit, b: Hit) -> Hit:
    first, second = sorted((a.chunk, b.chunk), key=lambda chunk: chunk.start)
    text = first.text + second.text[max(0, first.end - second.start) :]
    end = max(first.end, second.end)
    return replace(a, chunk=replace(first, text=text, end=end))
