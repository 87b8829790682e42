"""Which passages lie nearest to the query in the embedder's space, over a list of segments.

    score(q, d) = cos(e(q), e(d)) = e(q) . e(d)         for unit vectors

Small indexes are ranked exactly, by one product with the matrix of their vectors. Above
``ANN_FROM`` voting rows two steps replace it: all codes of one bit a dimension are scanned
(``scan``), and the ``SHORTLIST`` best by their estimates are read from disk and ranked by their
full vectors. So scores are exact, and what is approximate is only which rows were looked at:
recall@10 is 0.99 and more on MiniLM's vectors (benchmarks/dense.py). Rows outside the mask are
passed over before ranking, so a strict filter or many deletions take nothing from the result,
and a mask of fewer rows than the shortlist makes it exact.

No graph and no partitions: nothing has to be learned, an added or deleted row costs what it
costs alone, and the scan of 1,000,000 rows takes about 3 ms. It grows with the number of rows;
far beyond that a store with HNSW or IVF is the better place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llmwright.retrieval.dense.codes import encode_queries
from llmwright.retrieval.dense.cosine import ANN_FROM, cosines
from llmwright.retrieval.dense.scan import Found, scan
from llmwright.retrieval.dense.segment import DenseSegment

SHORTLIST = 500
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
    masks = [None if mask is None else mask[a:b] for a, b in pairwise(starts)]
    exact = sum(segment.voting for segment in segments) < ann_from
    ranked: list[Scored] = []
    for begin in range(0, len(queries), _QUERIES):
        part = np.ascontiguousarray(queries[begin : begin + _QUERIES], np.float32)
        found: list[list[tuple[NDArray[np.int64], NDArray[np.float32]]]] = [[] for _ in part]
        for segment, start, allowed in zip(segments, starts, masks, strict=False):
            if not segment.voting:
                continue
            allowed = segment.voting_mask(allowed)
            ask = _exact if exact else _approximate
            for q, (places, scores) in enumerate(ask(segment, part, top, allowed)):
                rows = places if segment.row_of is None else segment.row_of[places]
                found[q].append((rows + start, scores))
        ranked += [_best(parts, top, ordered or _by_row) for parts in found]
    return ranked


def vectors_of(
    segments: Sequence[DenseSegment], rows: Sequence[int]
) -> dict[int, NDArray[np.float32]]:
    """The vectors of those of ``rows`` (numbered through the segments) that vote."""
    wanted = np.array(sorted(set(rows)), np.int64)
    vectors: dict[int, NDArray[np.float32]] = {}
    start = 0
    for segment in segments:
        here = wanted[(wanted >= start) & (wanted < start + segment.rows)] - start
        here = here[segment.votes[here]]
        if len(here):
            found = segment.vectors(here)
            vectors.update(zip((here + start).tolist(), found, strict=True))
        start += segment.rows
    return vectors


def _exact(
    segment: DenseSegment, queries: NDArray[np.float32], top: int, mask: NDArray[np.bool_] | None
) -> Found:
    block = cosines(queries, segment.matrix)  # [queries, voting]
    if mask is None:
        places = np.arange(segment.voting)
    else:
        places = np.flatnonzero(mask)
        block = block[:, places]
    found = []
    for scores in block:
        best = np.arange(len(scores))
        if len(scores) > top:  # all that tie with the last one stay, for rows to decide
            bound = np.partition(scores, len(scores) - top)[len(scores) - top]
            best = np.flatnonzero(scores >= bound)
        found.append((places[best], scores[best]))
    return found


def _approximate(
    segment: DenseSegment, queries: NDArray[np.float32], top: int, mask: NDArray[np.bool_] | None
) -> Found:
    size = max(SHORTLIST, _PER_RESULT * top)
    codes = segment.codes
    found = []
    for q, (places, _) in enumerate(scan(codes, encode_queries(queries, codes.centre), size, mask)):
        places = np.sort(places)  # in the order of the file
        found.append((places, cosines(queries[q : q + 1], segment.at(places))[0]))
    return found


def _best(parts: Found, top: int, ordered: Ordered) -> Scored:
    if not parts:
        return []
    rows = np.concatenate([rows for rows, _ in parts])
    scores = np.concatenate([scores for _, scores in parts])
    return ordered(rows, scores, top)


def _by_row(rows: NDArray[np.int64], scores: NDArray[np.float32], top: int) -> Scored:
    order = np.lexsort((rows, -scores))[:top]
    return list(zip(rows[order].tolist(), scores[order].tolist(), strict=True))
