"""The inverted file of one segment: which passages hold a term, and how often.

    terms        [terms] int64        hashes, sorted: fragments of words (below 0), then stems
    starts       [terms + 1] int64    where a term's postings begin
    rows         [postings] uint16    passages: of each term first those that hold it once, then
                                      those that hold it more often, ascending
    many         [terms + 1] int64    where a term's counts begin, in:
    counts                            how often, of those that hold it more than once
    lengths      [passages] int32     terms of a passage, counted as often as they occur
    stem_starts  [passages + 1] int64 where a passage's stems begin, in:
    stems        [stems] uint32       places in ``terms``, for feedback and
    stem_counts  [stems]              how often

Three of four postings count 1; they need no count, and no division when they are scored.

A segment holds at most 65,536 passages, so that a row has 16 bits, and never changes. Statistics
(df, N, the mean length) are those of the whole index and are not kept here; scores are computed
when asked (``scoring``). After Lucene (Bialecki, Muir and Ingersoll, "Apache Lucene 4", 2012):
small segments are written at once and merged later, which reads postings and never a text.

Cost: 2.25 bytes a posting and 5 a stem: about 1 KB a passage of 100 words. Building and merging
are linear (two counting sorts): some 10 ns a posting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llmwright.retrieval.lexical.arrays import Arrays
from llmwright.retrieval.lexical.scoring import posting_order

MAX_ROWS = 1 << 16


class Column(Protocol):
    """An array that is read in parts."""

    def __getitem__(self, span: slice, /) -> NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class Postings:
    """See the module for shapes."""

    terms: NDArray[np.int64]
    starts: NDArray[np.int64]
    rows: NDArray[np.uint16]
    many: NDArray[np.int64]
    counts: NDArray[Any]
    lengths: NDArray[np.int32]
    stem_starts: NDArray[np.int64]
    stems: Column
    stem_counts: Column

    @classmethod
    def build(cls, terms: NDArray[np.int64], lengths: NDArray[np.int64]) -> Postings:
        """From hashes [terms of all passages, one passage after the other] and how many each
        passage has [passages, at most ``MAX_ROWS``]."""
        vocabulary, places = np.unique(terms, return_inverse=True)
        return cls.of_places(vocabulary, places.astype(np.int32), lengths)

    @classmethod
    def of_places(
        cls, terms: NDArray[np.int64], places: NDArray[np.int32], lengths: NDArray[np.int64]
    ) -> Postings:
        """:meth:`build` with each word given by its place in the sorted ``terms``, all of which
        occur."""
        rows = np.repeat(np.arange(len(lengths), dtype=np.uint16), lengths)
        ones = np.ones(len(places), np.uint32)
        return _inverted(terms, places, rows, ones, lengths.astype(np.int32))

    @classmethod
    def merge(cls, parts: Sequence[Postings], moved: Sequence[NDArray[np.int64]]) -> Postings:
        """One segment of several. ``moved[i]`` [passages of part i] says which row each passage
        gets, -1 for one that is dropped; the rows given are 0 to their number."""
        kept = [np.flatnonzero(to >= 0) for to in moved]
        lengths = np.zeros(sum(map(len, kept)), np.int32)
        vocabulary = np.unique(np.concatenate([part.terms for part in parts]))
        terms, rows, counts = [], [], []
        for part, to, stay in zip(parts, moved, kept, strict=True):
            lengths[to[stay]] = part.lengths[stay]
            places = np.searchsorted(vocabulary, part.terms).astype(np.int32)
            term = np.repeat(places, np.diff(part.starts))
            row, count = to[part.rows], np.ones(len(part.rows), part.counts.dtype)
            count[_counted(part.starts, part.many)] = part.counts
            if len(stay) < len(to):
                held = row >= 0
                term, row, count = term[held], row[held], count[held]
            terms.append(term)
            rows.append(row.astype(np.uint16))
            counts.append(count)
        return _inverted(
            vocabulary, np.concatenate(terms), np.concatenate(rows), np.concatenate(counts), lengths
        )

    def passage(self, row: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """The stems of a passage, ascending, and how often it holds each."""
        begin, end = self.stem_starts[row : row + 2].tolist()
        return self.terms[self.stems[begin:end]], self.stem_counts[begin:end]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What :meth:`of_arrays` makes it of again."""
        return {field.name: getattr(self, field.name)[:] for field in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> Postings:
        """From a file of :meth:`arrays`. Mapped, so that processes share the memory; a passage's
        stems, of which a query wants those of three, are read from it."""
        columns: dict[str, Any] = {field.name: arrays[field.name] for field in fields(cls)}
        columns |= {name: FilePart(arrays, name) for name in ("stems", "stem_counts")}
        return cls(**columns)


@dataclass(frozen=True, slots=True)
class FilePart:
    """An array in a file, read in parts."""

    arrays: Arrays
    name: str

    def __getitem__(self, span: slice) -> NDArray[Any]:
        if span == slice(None):
            return self.arrays[self.name]
        return self.arrays.read(self.name, span.start, span.stop)


def _inverted(
    terms: NDArray[np.int64],
    places: NDArray[np.int32],
    rows: NDArray[np.uint16],
    counts: NDArray[Any],
    lengths: NDArray[np.int32],
) -> Postings:
    """Entries (place of a term, row, count) in any order, the same pair perhaps several times."""
    order = posting_order(places, rows, len(terms), len(lengths))
    places, rows, counts = places[order], rows[order], counts[order]
    if len(places):
        first = np.flatnonzero(
            np.concatenate([[True], (places[1:] != places[:-1]) | (rows[1:] != rows[:-1])])
        )
        if len(first) < len(places):
            counts = np.add.reduceat(counts, first, dtype=np.uint32)
            places, rows = places[first], rows[first]
    df = np.bincount(places, minlength=len(terms))
    if not df.all():  # words of passages that were dropped
        places = (np.cumsum(df > 0) - 1).astype(np.int32)[places]
        terms, df = terms[df > 0], df[df > 0]
    starts = np.concatenate([[0], np.cumsum(df)]).astype(np.int64)
    counts, often = _narrow(counts), counts > 1
    often_of = np.bincount(places[often], minlength=len(terms))
    many = np.concatenate([[0], np.cumsum(often_of)]).astype(np.int64)
    arranged, last = np.empty_like(rows), _counted(starts, many)
    arranged[~last], arranged[last] = rows[~often], rows[often]
    first_stem = starts[np.searchsorted(terms, 0)]
    places, stem_rows, stem_counts = places[first_stem:], rows[first_stem:], counts[first_stem:]
    by_row = np.argsort(stem_rows, kind="stable")
    per_row = np.bincount(stem_rows, minlength=len(lengths))
    return Postings(
        terms,
        starts,
        arranged,
        many,
        counts[often],
        lengths,
        np.concatenate([[0], np.cumsum(per_row)]).astype(np.int64),
        places[by_row].astype(np.uint32),
        stem_counts[by_row],
    )


def _counted(starts: NDArray[np.int64], many: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which postings have a count: the last of each term."""
    df, often = np.diff(starts), np.diff(many)
    return np.repeat(np.tile([False, True], len(df)), np.stack([df - often, often], 1).reshape(-1))


def _narrow(counts: NDArray[Any]) -> NDArray[Any]:
    """In as few bytes as the largest count needs."""
    largest = int(counts.max(initial=0))
    kind = np.uint8 if largest < 1 << 8 else np.uint16 if largest < 1 << 16 else np.uint32
    return np.ascontiguousarray(counts, kind)
