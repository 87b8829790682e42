"""Which passages lie nearest to the query in the embedder's space, over a list of segments.

    score(q, d) = cos(e(q), e(d)) = e(q) . e(d)         for unit vectors

Small indexes are ranked exactly, by one product with the matrix of their vectors. Above
``ANN_FROM`` voting rows two steps replace it: all codes of one bit a dimension are scanned
(``scan``), and the ``SHORTLIST`` best by their estimates are read from disk and ranked by their
full vectors. So scores are exact, and what is approximate is only which rows were looked at:
recall@10 is 0.97 to 1.00 on MiniLM's vectors (benchmarks/vectors.py). Rows outside the mask are
passed over before ranking, so a strict filter or many deletions take nothing from the result,
and a mask of fewer rows than the shortlist makes it exact.

No graph and no partitions: nothing has to be learned, an added or deleted row costs what it
costs alone, and the scan of 1,000,000 rows takes some 3 to 6 ms. It grows with the number of rows;
far beyond that a store with HNSW or IVF is the better place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llmwright.retrieval.dense.cosine import ANN_FROM, candidates, cosines, settled
from llmwright.retrieval.dense.scan import Found, Mask, scan
from llmwright.retrieval.dense.segment import DenseSegment

SHORTLIST = 1000
"""Rows whose full vectors are read for an approximate search, at least."""
_PER_RESULT = 10  # and at least so many for each row asked for
_QUERIES = 64  # scanned or multiplied at once

Scored = list[tuple[int, float]]
"""Rows with scores, best first; of equal scores the lower row."""

Ordered = Callable[[NDArray[np.int64], NDArray[np.float32], int], Scored]


def dense_search(
    segments: Sequence[DenseSegment],
    queries: NDArray[np.float32],
    top: int,
    mask: NDArray[np.bool_] | None = None,
    *,
    ann_from: int = ANN_FROM,
    ordered: Ordered | None = None,
) -> list[Scored]:
    """The ``top`` nearest rows for each of ``queries`` [queries, dimension], unit vectors.

    Rows are numbered through the segments in their order; ``mask`` [all rows] says which may be
    found. From ``ann_from`` voting rows on, the search is approximate. ``ordered`` takes rows,
    scores and ``top`` and says the order of equal ones, which is otherwise that of the rows.
    """
    starts = np.cumsum([0, *(segment.rows for segment in segments)])
    masks = [
        segment.voting_mask(None if mask is None else mask[begin:end])
        for segment, (begin, end) in zip(segments, pairwise(starts.tolist()), strict=True)
    ]
    exact = sum(segment.voting for segment in segments) < ann_from
    ranked: list[Scored] = []
    for begin in range(0, len(queries), _QUERIES):
        part = np.ascontiguousarray(queries[begin : begin + _QUERIES], np.float32)
        if exact:
            found = _exact(segments, starts, part, top, masks)
        else:
            found = _approximate(segments, starts, part, top, masks)
        ranked += [(ordered or _by_row)(rows, scores, top) for rows, scores in found]
    return ranked


def vectors_of(
    segments: Sequence[DenseSegment], rows: Sequence[int]
) -> dict[int, NDArray[np.float32]]:
    """The vectors of those of ``rows`` (numbered through the segments) that vote."""
    wanted = np.array(sorted(set(rows)), np.int64)
    starts = np.cumsum([0, *(segment.rows for segment in segments)])
    vectors: dict[int, NDArray[np.float32]] = {}
    for number, own in _split(starts, wanted):
        segment = segments[number]
        own = own[segment.votes[own]]
        found = segment.vectors(own)
        vectors.update(zip((own + starts[number]).tolist(), found, strict=True))
    return vectors


def _split(
    starts: NDArray[np.int64], places: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Sorted ``places`` by segment, as numbers within it; ``starts``: [segments + 1]."""
    bounds = np.searchsorted(places, starts).tolist()
    for number, (begin, end) in enumerate(pairwise(bounds)):
        if begin < end:
            yield number, places[begin:end] - starts[number]


def _exact(
    segments: Sequence[DenseSegment],
    starts: NDArray[np.int64],
    queries: NDArray[np.float32],
    top: int,
    masks: Sequence[Mask | None],
) -> Found:
    """Rows and scores of at least the ``top`` best, all that tie with the last among them."""
    rows = [
        start + (np.arange(segment.voting) if segment.row_of is None else segment.row_of)
        for segment, start in zip(segments, starts, strict=False)
    ]
    parts = [cosines(queries, segment.matrix) for segment in segments]  # [queries, voting]
    for i, mask in enumerate(masks):
        if mask is not None:
            rows[i], parts[i] = rows[i][mask], parts[i][:, mask]
    all_rows = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    found = []
    for q, query in enumerate(queries):
        scores = np.concatenate([part[q] for part in parts] or [np.zeros(0, np.float32)])
        chosen = all_rows[candidates(scores, top)]  # ascending
        vectors = [
            segments[number].matrix[segments[number].place(own)]
            for number, own in _split(starts, chosen)
        ]
        found.append((chosen, settled(query, np.concatenate(vectors)) if vectors else scores[:0]))
    return found


def _approximate(
    segments: Sequence[DenseSegment],
    starts: NDArray[np.int64],
    queries: NDArray[np.float32],
    top: int,
    masks: Sequence[Mask | None],
) -> Found:
    """Rows and scores of the shortlist."""
    size = max(SHORTLIST, _PER_RESULT * top)
    voting = np.cumsum([0, *(segment.voting for segment in segments)])
    found = []
    for query, (places, _) in zip(
        queries, scan([segment.codes for segment in segments], queries, size, masks), strict=True
    ):
        rows, vectors = [], []
        for number, own in _split(voting, np.sort(places)):
            segment = segments[number]
            vectors.append(segment.at(own))
            rows.append(starts[number] + (own if segment.row_of is None else segment.row_of[own]))
        if rows:
            read = np.concatenate(vectors)
            chosen = candidates(cosines(query[None], read)[0], top)
            found.append((np.concatenate(rows)[chosen], settled(query, read[chosen])))
        else:
            found.append((np.zeros(0, np.int64), np.zeros(0, np.float32)))
    return found


def _by_row(rows: NDArray[np.int64], scores: NDArray[np.float32], top: int) -> Scored:
    order = np.lexsort((rows, -scores))[:top]
    return list(zip(rows[order].tolist(), scores[order].tolist(), strict=True))
