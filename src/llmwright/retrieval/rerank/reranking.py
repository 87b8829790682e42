"""A search whose best hits are looked at again.

A reranker gives each hit a score; what it says is all that is known of it here. With ``weight`` w
the first ranking keeps a vote, both scores on one scale over the hits at hand:

    s(d) = (1 - w) z(first(d)) + w z(again(d)),      z(x) = (x - mean) / deviation

A small reranker trained on little data helps as one more vote far more than as the only judge.
Costs what the reranker costs for ``depth`` hits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from llmwright.core import ConfigurationError, Hit, Search

Reranker = Callable[[str, Sequence[Hit]], Sequence[float]]
"""A query and hits -> a score for each hit, higher is better."""

DEPTH = 50


def reranked(search: Search, reranker: Reranker, depth: int = DEPTH) -> Search:
    """``search`` with its first ``depth`` hits ordered by ``reranker``.

    No hit is lost: those further down follow in their order. Equal scores, and hits without a
    finite one, keep their order too; the latter stand behind the others. A hit's score becomes
    the reranker's, and its ranks say where it put the hit. Raises ``ConfigurationError`` for a
    depth below 1.
    """
    if depth < 1:
        raise ConfigurationError(f"depth is {depth}", where="reranking", fix="give 1 or more")

    def again(query: str, top: int) -> list[Hit]:
        hits = list(search(query, max(top, depth)))
        return [*reordered(hits[:depth], reranker(query, hits[:depth])), *hits[depth:]][:top]

    return again


def interpolated(reranker: Reranker, weight: float) -> Reranker:
    """``reranker`` as one of two votes: 0 leaves the order as it was, 1 hears it alone.

    A score that is not finite counts as the least of the others. Raises ``ConfigurationError``
    for a weight outside [0, 1].
    """
    if not 0 <= weight <= 1:
        raise ConfigurationError(f"weight is {weight}", where="reranking", fix="give 0 to 1")

    def both(query: str, hits: Sequence[Hit]) -> list[float]:
        if not hits:
            return []
        first = standard([hit.score for hit in hits])
        scores = (1 - weight) * first + weight * standard(reranker(query, hits))
        return [float(score) for score in scores]

    return both


def reordered(hits: Sequence[Hit], scores: Sequence[float]) -> list[Hit]:
    """Hits by their scores, best first."""
    if len(hits) != len(scores):
        raise ConfigurationError(
            f"{len(scores)} scores for {len(hits)} hits",
            where="reranking",
            fix="give one score for each hit",
        )
    finite = [float(s) if math.isfinite(s) else -math.inf for s in scores]
    order = sorted(range(len(hits)), key=lambda place: -finite[place])
    return [
        replace(
            hits[place],
            score=finite[place],
            ranks={**hits[place].ranks, "reranker": rank},
        )
        if finite[place] > -math.inf
        else hits[place]
        for rank, place in enumerate(order, start=1)
    ]


def standard(scores: Sequence[float]) -> NDArray[np.float64]:  # [hits]
    """Scores less their mean, in deviations; all 0 where they are equal."""
    x = np.asarray(scores, np.float64)
    known = np.isfinite(x)
    if not known.any():
        return np.zeros(len(x))
    x = np.where(known, x, x[known].min())
    x = x - x.mean()
    width = float(x.std())
    # Equal numbers may leave a rest of rounding, which is no difference.
    return x / width if width > 1e-12 * max(1.0, float(np.abs(x).max())) else np.zeros(len(x))
