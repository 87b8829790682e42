"""Pieces of a text packed into chunks: as many neighbours as fit, with or without overlap.

A way of cutting says where a text may be cut (pieces, in order, touching each other); this says
which of those places are taken:

    chunk_i = pieces f_i .. l_i,  l_i the last with  size(f_i .. l_i) <= limit
    f_{i+1} = l_i + 1, or further back while  size(f_{i+1} .. l_i) <= overlap

Sizes of pieces are added up, and the sum, which a subword tokenizer need not keep, is checked
against the true size of the whole. A chunk ends early where chunks of equal size are wanted: 230
tokens for a limit of 220 become two halves, not 220 and 10.

Cost: linear; held at once are the pieces of one chunk, so a text of any length streams through.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator

from llmwright.core import CapacityError
from llmwright.retrieval.chunking.spans import Count, Span

_JOINER = "\u200d"
_CLUSTER = 16  # characters looked at for the end of a letter with its marks


class Packer:
    """Packs pieces of one text. ``most`` bounds the pieces of a chunk and ``shared`` those that
    two chunks share, where pieces are counted and not only tokens."""

    def __init__(
        self,
        text: str,
        size: int,
        overlap: int,
        count: Count,
        *,
        most: int | None = None,
        shared: int | None = None,
    ) -> None:
        self.text, self.size, self.overlap, self.count = text, size, overlap, count
        self._most = math.inf if most is None else most
        self._shared = shared
        self._source: Iterator[Span] = iter(())
        self._held: list[tuple[Span, int]] = []  # pieces with their sizes
        self._enough = math.inf

    def measure(self, span: Span) -> int:
        """Its size without the white space at both ends."""
        return self.count(self.text[span[0] : span[1]].strip())

    def fits(self, span: Span) -> bool:
        """Whether it may stand as a chunk. Raises ``CapacityError`` for a single character that
        is too large by itself, which can neither be cut nor left out."""
        size = self.measure(span)
        if size > self.size and span[1] - span[0] == 1:
            raise CapacityError(
                f"the character {self.text[span[0]]!r} alone counts {size}, more than the chunk "
                f"size {self.size}",
                where=f"character {span[0]} of the text",
                fix=f"give a chunk size of at least {size}",
            )
        return size <= self.size

    def even(self, span: Span) -> float:
        """The size at which a chunk of this span is full, for chunks of about equal size."""
        total = self.measure(span)
        return total / -(-total // self.size) if total else 1.0

    def shares(self, span: Span) -> Iterator[Span]:
        """A span that has no border, in equal shares that fit; a mark stays with the letter it
        sits on where that is possible."""
        if self.fits(span):
            yield span
            return
        begin, end = span
        number = min(max(2, -(-self.measure(span) // self.size)), end - begin)
        cuts = [begin + (end - begin) * i // number for i in range(1, number)]
        for cut in [*(self._whole_letter(cut, end) for cut in cuts), end]:
            if cut > begin:
                yield from self.shares((begin, cut))
                begin = cut

    def pack(self, pieces: Iterable[Span], enough: float = math.inf) -> Iterator[Span]:
        """Trimmed spans of ``pieces`` joined while they fit, each piece fitting by itself.

        A chunk that has reached ``enough`` takes no further piece. Chunks that would be only
        white space are left out.
        """
        self._source, self._held, self._enough = iter(pieces), [], enough
        while self._reach(0):
            last = self._last(0)
            span = self.trim((self._held[0][0][0], self._held[last][0][1]))
            if span[0] < span[1]:
                yield span
            if not self._reach(last + 1):
                return
            del self._held[: self._back(last)]

    def trim(self, span: Span) -> Span:
        """Without the white space at both ends."""
        start, end = span
        part = self.text[start:end]
        return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())

    def _reach(self, number: int) -> bool:
        """Take pieces up until ``number`` is held; whether there is one."""
        while len(self._held) <= number:
            piece = next(self._source, None)
            if piece is None:
                return False
            self._held.append((piece, self.measure(piece)))
        return True

    def _last(self, first: int) -> int:
        """The furthest piece that still fits together with ``first``."""
        total, last = self._held[first][1], first
        while total < self._enough and last - first + 1 < self._most and self._reach(last + 1):
            total += self._held[last + 1][1]
            if total > self.size:
                break
            last += 1
        while last > first and self._between(first, last) > self.size:
            last -= 1
        return last

    def _back(self, last: int) -> int:
        """Where the next chunk begins: so far back that the overlap fits and it gets further."""
        begin, total, after = last + 1, 0, self._held[last + 1][1]
        while begin > 1 and (self.overlap or self._shared):
            total += self._held[begin - 1][1]
            if total + after > self.size or (self._shared is None and total > self.overlap):
                break
            if self._shared is not None and last + 1 - begin >= self._shared:
                break
            begin -= 1
        while begin <= last and (
            self._between(begin, last + 1) > self.size
            or (self._shared is None and self._between(begin, last) > self.overlap)
        ):
            begin += 1
        return begin if begin <= last and self._last(begin) > last else last + 1

    def _between(self, first: int, last: int) -> int:
        return self.measure((self._held[first][0][0], self._held[last][0][1]))

    def _whole_letter(self, cut: int, end: int) -> int:
        """The first place from ``cut`` on that is not inside a letter with its marks, an emoji
        joined of several, or a line end of two characters; ``cut`` where there is none near."""
        for place in range(cut, min(cut + _CLUSTER, end)):
            before, after = self.text[place - 1], self.text[place]
            joined = _JOINER in (before, after) or (before, after) == ("\r", "\n")
            tinted = "\U0001f3fb" <= after <= "\U0001f3ff"
            if not (joined or tinted or unicodedata.category(after)[0] == "M"):
                return place
        return cut
