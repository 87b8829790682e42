"""One committed state of an index, open for reading.

A row is a number: the segments' chunks one after the other, dead ones included. Equal scores are
ordered by the ids of the chunks, which within one segment is the order of the rows.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmwright.core import Chunk, Document
from llmwright.retrieval.dense.segment import DenseSegment
from llmwright.retrieval.index.records import (
    Filter,
    document_key,
    to_chunk,
    to_document,
)
from llmwright.retrieval.index.segment import Mask
from llmwright.retrieval.index.store import Opened, open_segments
from llmwright.retrieval.lexical.bm25 import BM25

_REMEMBERED = 20_000  # chunks that were read: about 30 MB

Scored = list[tuple[int, float]]
"""Rows with scores, best first."""


class Snapshot:
    """Safe to use from many threads."""

    def __init__(self, path: Path, known: Sequence[Opened] = ()) -> None:
        self.path = path
        self.state, self.opened = open_segments(path, known)
        sizes = [opened.segment.rows for opened in self.opened]
        self._bases = np.cumsum([0, *sizes]).tolist()
        self.rows = int(self._bases[-1])
        self._read: dict[int, Chunk] = {}

    @cached_property
    def bm25(self) -> BM25:
        live = [None if opened.live.all() else opened.live for opened in self.opened]
        postings = [opened.segment.postings for opened in self.opened]
        return BM25(postings, live, self.state.k1, self.state.b)

    @cached_property
    def dense(self) -> list[DenseSegment]:
        return [opened.segment.dense for opened in self.opened]

    @cached_property
    def live(self) -> Mask | None:
        """Which rows are alive; None where all are."""
        if self.rows == self.state.chunks:
            return None
        return np.concatenate([opened.live for opened in self.opened])

    def allowed(self, filter: Filter) -> Mask:
        """Which live rows a filter lets pass. Values are looked up; a function sees every chunk."""
        if isinstance(filter, Mapping):
            masks = [o.segment.facets.mask(filter, o.segment.rows) & o.live for o in self.opened]
            return np.concatenate(masks)
        mask = np.zeros(self.rows, np.bool_)
        for base, opened in zip(self._bases, self.opened, strict=False):
            for row in np.flatnonzero(opened.live).tolist():
                mask[base + row] = bool(filter(self.chunk(base + row)))
        return mask

    def chunk(self, row: int) -> Chunk:
        """The chunk of a row; those read last are remembered."""
        chunk = self._read.get(row)
        if chunk is None:
            opened, own = self._place(row)
            chunk = to_chunk(opened.segment.chunks[own])
            if len(self._read) >= _REMEMBERED:
                self._read = {}
            self._read[row] = chunk
        return chunk

    def chunk_id(self, row: int) -> bytes:
        """Its id, as UTF-8, whose order is that of the text."""
        opened, own = self._place(row)
        return opened.segment.ids[own]

    def ordered(self, rows: NDArray[np.int64], scores: NDArray[np.float32], top: int) -> Scored:
        """The ``top`` best, best first, equal ones by the ids of their chunks."""
        order = np.lexsort((rows, -scores))
        rows, scores = rows[order], scores[order]
        if not self.sorted and len(rows):
            last = scores[min(top, len(rows)) - 1]
            several = np.flatnonzero(scores >= last)
            rows, scores = rows[several], scores[several]
            # Runs of equal scores, which only segments mix up.
            starts = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
            ends = np.append(starts[1:], len(rows))
            for begin, end in zip(starts.tolist(), ends.tolist(), strict=True):
                if end - begin > 1:
                    rows[begin:end] = sorted(rows[begin:end].tolist(), key=self.chunk_id)
        return list(zip(rows[:top].tolist(), scores[:top].tolist(), strict=True))

    @property
    def sorted(self) -> bool:
        """Whether rows are in the order of ids anyway."""
        return len(self.opened) < 2

    def document(self, identity: str) -> Document | None:
        """A living document by its id."""
        keys = np.array([document_key(identity)], np.uint64)
        for opened in self.opened:
            for _, place in opened.segment.find(keys):
                same = opened.segment.document_ids[place] == identity.encode()
                if same and opened.documents[place]:
                    return to_document(opened.segment.documents[place])
        return None

    def documents(self) -> Iterator[Document]:
        """All living documents, in the order of their ids."""

        def of(opened: Opened) -> Iterator[tuple[bytes, int]]:
            for place in np.flatnonzero(opened.documents).tolist():
                yield opened.segment.document_ids[place], place

        for opened, place in _merged(self.opened, of):
            yield to_document(opened.segment.documents[place])

    def live_rows(self) -> Iterator[tuple[Opened, int]]:
        """All living chunks, in the order of their ids: segments and rows in them."""

        def of(opened: Opened) -> Iterator[tuple[bytes, int]]:
            for row in np.flatnonzero(opened.live).tolist():
                yield opened.segment.ids[row], row

        return _merged(self.opened, of)

    def document_hashes(self) -> list[str]:
        """Content hashes of all living documents, sorted."""
        return sorted(
            row.tobytes().hex()
            for opened in self.opened
            for row in opened.segment.hashes[opened.documents]
        )

    def _place(self, row: int) -> tuple[Opened, int]:
        number = bisect_right(self._bases, row) - 1
        return self.opened[number], row - self._bases[number]


def _merged(
    opened: Sequence[Opened], of: Callable[[Opened], Iterator[tuple[bytes, int]]]
) -> Iterator[tuple[Opened, int]]:
    def numbered(number: int, one: Opened) -> Iterator[tuple[bytes, int, int]]:
        for identity, place in of(one):
            yield identity, number, place

    streams = [numbered(number, one) for number, one in enumerate(opened)]
    for _, number, place in heapq.merge(*streams):
        yield opened[number], place
