"""The inner loops of BM25 over the segments of an index, compiled (``scoring.c``) or in numpy.

Both forms give the same bits, so a ranking does not depend on whether a compiler was there. Term
at a time: a query's terms are looked up in each segment's sorted vocabulary, and each adds to an
array with one score a passage what it gives to the passages that hold it. A segment holds at most
65,536 passages, so its part of the array (256 KB) stays in the processor's cache while all terms
are added.

Cost: about 2 ns a posting and 0.3 ns a passage compiled, five times that in numpy.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmwright.core import CLibrary
from llmwright.retrieval.ranking.fusion import best_rows

_POINTER, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float

LIBRARY = CLibrary(
    Path(__file__).parent / "scoring.c",
    (
        ("lw_find", None, (_POINTER, _LONG, _POINTER, _LONG, _POINTER, _POINTER)),
        ("lw_add", None, (_POINTER, _LONG, _POINTER, _POINTER, _LONG, _FLOAT, _POINTER)),
        ("lw_best", _LONG, (_POINTER, _LONG, *[_POINTER] * 2, _LONG, *[_POINTER] * 3)),
        ("lw_order", None, (*[_POINTER] * 2, *[_LONG] * 3, *[_POINTER] * 3)),
    ),
    flags=(
        "-O3",
        "-ffp-contract=off",
    ),  # a fused multiply-add would round once where numpy does twice
)


_ARRAYS = ("terms", "starts", "rows", "many", "counts", "norms", "once", "live")


class _Segment(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in _ARRAYS),
        *((name, _LONG) for name in ("n_terms", "n_rows", "width")),
    )


@dataclass(frozen=True, slots=True)
class Part:
    """What scoring reads of one segment; every array is contiguous."""

    terms: NDArray[np.int64]  # [terms], sorted
    starts: NDArray[np.int64]  # [terms + 1]
    rows: NDArray[np.uint16]  # [postings], of each term first those that hold it once
    many: NDArray[np.int64]  # [terms + 1], where a term's counts begin
    counts: NDArray[Any]  # of those that hold it more than once; one, two or four bytes each
    norms: NDArray[np.float32]  # [passages]
    once: NDArray[np.float32]  # [passages], 1 / (1 + norm)
    live: NDArray[np.bool_] | None  # [passages]; None where all are


class Scorer:
    """Looks up, adds and ranks over some segments. Safe to use from many threads."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = list(parts)
        self.rows = sum(len(part.norms) for part in parts)
        self._library = LIBRARY.load() if LIBRARY.available() else None
        self._segments = (_Segment * max(len(self._parts), 1))()
        for segment, part in zip(self._segments, self._parts, strict=False):
            for name in _ARRAYS:
                array = getattr(part, name)
                setattr(segment, name, None if array is None else array.ctypes.data)
            segment.n_terms, segment.n_rows = len(part.terms), len(part.norms)
            segment.width = part.counts.itemsize
        self._address = ctypes.addressof(self._segments)

    def find(self, terms: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each term stands in each segment [segments, terms], -1 where it does not, and how
        many live passages hold it [terms]."""
        places = np.empty((len(self._parts), len(terms)), np.int64)
        df = np.zeros(len(terms), np.int64)
        if self._library is not None:
            self._library.lw_find(
                self._address, len(self._parts), terms.ctypes.data, len(terms),
                places.ctypes.data, df.ctypes.data,
            )  # fmt: skip
            return places, df
        for part, own in zip(self._parts, places, strict=True):
            own[:] = -1
            if not len(part.terms):
                continue
            near = np.minimum(np.searchsorted(part.terms, terms), len(part.terms) - 1)
            held = part.terms[near] == terms
            own[held] = near[held]
            for number in np.flatnonzero(held):
                rows = part.rows[slice(*part.starts[own[number] : own[number] + 2])]
                df[number] += len(rows) if part.live is None else part.live[rows].sum()
        return places, df

    def add(
        self,
        places: NDArray[np.int64],
        weights: NDArray[np.float32],
        scores: NDArray[np.float32],
        scale: float,
    ) -> None:
        """``scores`` [passages of all segments] become ``scale`` times themselves plus what the
        terms at ``places`` give, by ``weights`` [terms]; with a scale of 0 they need no value."""
        if self._library is not None:
            self._library.lw_add(
                self._address, len(self._parts), places.ctypes.data, weights.ctypes.data,
                len(weights), scale, scores.ctypes.data,
            )  # fmt: skip
            return
        if scale == 0:
            scores[:] = 0
        else:
            scores *= np.float32(scale)
        base = 0
        for part, own in zip(self._parts, places, strict=True):
            view = scores[base : base + len(part.norms)]
            base += len(part.norms)
            for place, weight in zip(own.tolist(), weights, strict=True):
                if place >= 0:
                    rows = part.rows[slice(*part.starts[place : place + 2])]
                    counts = part.counts[slice(*part.many[place : place + 2])].astype(np.float32)
                    first, rows = np.split(rows, [len(rows) - len(counts)])
                    view[first] += weight * part.once[first]
                    view[rows] += weight * (counts / (counts + part.norms[rows]))

    def best(
        self, scores: NDArray[np.float32], allowed: NDArray[np.bool_] | None, top: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Candidates: rows and scores above 0, of each segment the ``top`` best that are live and
        ``allowed``, best first and equal ones by row, one segment behind the other. Rows that
        cannot be among the ``top`` best of all may be left out."""
        if self._library is not None:
            room = sum(min(top, len(part.norms)) for part in self._parts)
            rows, found = np.empty(room, np.int64), np.empty(room, np.float32)
            heap = np.empty(min(top, self.rows) * 2, np.float64)  # 16 bytes an entry
            size = self._library.lw_best(
                self._address, len(self._parts), scores.ctypes.data,
                None if allowed is None else allowed.ctypes.data, top,
                heap.ctypes.data, rows.ctypes.data, found.ctypes.data,
            )  # fmt: skip
            return rows[:size], found[:size]
        base, chosen = 0, []
        for part in self._parts:
            view = scores[base : base + len(part.norms)]
            usable = view > 0
            if part.live is not None:
                usable &= part.live
            if allowed is not None:
                usable &= allowed[base : base + len(view)]
            chosen.append(base + best_rows(view, usable, top))
            base += len(view)
        merged = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
        return merged, scores[merged]


def posting_order(
    terms: NDArray[np.int32], rows: NDArray[np.uint16], n_terms: int, n_rows: int
) -> NDArray[np.uint32]:
    """The order of entries (term, row) by term, then row; equal ones stay as they came."""
    n = len(terms)
    if LIBRARY.available():
        starts = np.empty(max(n_terms, n_rows) + 1, np.int64)
        other, order = np.empty(n, np.uint32), np.empty(n, np.uint32)
        LIBRARY.load().lw_order(
            terms.ctypes.data, rows.ctypes.data, n, n_terms, n_rows,
            starts.ctypes.data, other.ctypes.data, order.ctypes.data,
        )  # fmt: skip
        return order
    by = np.argsort(rows, kind="stable")  # of 16 bits: a radix sort, linear
    for shift in (0, 16):
        digit = (terms[by] >> shift).astype(np.uint16)
        by = by[np.argsort(digit, kind="stable")]
    return by.astype(np.uint32)
