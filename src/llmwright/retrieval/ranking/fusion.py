"""Merge rankings by reciprocal rank fusion, which needs no scores that compare.

    score(d) = sum over rankings r that hold d of  w_r / (k + rank_r(d)),   rank from 1

Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual rank
learning methods", SIGIR 2009, who found k = 60. Costs one pass over the rankings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from llmwright.core import ConfigurationError

K = 60

Id = TypeVar("Id", str, int)


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[Id]], k: float = K, weights: Sequence[float] | None = None
) -> list[tuple[Id, float]]:
    """Ids with their fused scores, best first; equal scores are ordered by id.

    An id counts at its first place in each ranking. Raises ``ConfigurationError`` where ``k``
    is negative or the weights are not one for each ranking.
    """
    if k < 0:
        raise ConfigurationError(f"k is {k}", where="rank fusion", fix="give 0 or more")
    if weights is None:
        weights = [1.0] * len(rankings)
    if len(weights) != len(rankings):
        raise ConfigurationError(
            f"{len(weights)} weights for {len(rankings)} rankings",
            where="rank fusion",
            fix="give one weight for each ranking",
        )
    scores: dict[Id, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, identity in enumerate(dict.fromkeys(ranking), start=1):
            scores[identity] = scores.get(identity, 0.0) + weight / (k + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def best_rows(
    scores: NDArray[np.float32], allowed: NDArray[np.bool_], top: int
) -> NDArray[np.int64]:
    """The ``top`` allowed rows with the highest scores; equal scores are in the order of rows.

    ``scores`` and ``allowed`` [rows].
    """
    rows = np.flatnonzero(allowed)
    if len(rows) > top > 0:
        bar = np.partition(scores[rows], len(rows) - top)[len(rows) - top]
        rows = rows[scores[rows] >= bar]
    return rows[np.argsort(-scores[rows], kind="stable")][:top]
