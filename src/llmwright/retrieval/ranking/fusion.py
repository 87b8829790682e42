"""Merge rankings into one: by reciprocal ranks, or by a weighted sum of normalised scores.

    rrf        score(d) = sum over r that hold d of  w_r / (k + rank_r(d)),        rank from 1
    weighted   score(d) = sum over r of  w_r * n_r(s_r(d))  /  sum over r of  w_r

    n_r(s)     theoretical   (s - m_r) / (max_r - m_r)       m_r: the least score r can give
               minmax        (s - min_r) / (max_r - min_r)
               zscore        (s - mean_r) / deviation_r

Reciprocal ranks (Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet
and individual rank learning methods", SIGIR 2009, who found k = 60 for dozens of rankings; with a
few, a first place should count for more) need no scores that compare. Weighted sums keep how much
better the best is, and with learned weights do better in Bruch, Gai and Ingber, "An Analysis of
Fusion Functions for Hybrid Retrieval", 2022, arXiv 2210.11934, whose normalisation by the
theoretical minimum (0 for BM25, -1 for a cosine) is the default: unlike min-max it does not move
with the worst row that happened to be found.

A row that a ranking lacks counts there as its least: the last row's score where the ranking is as
deep as the deepest, m_r where it ended sooner because nothing more was found.

Costs one pass over the rankings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from llmwright.core import ConfigurationError

K = 60
FUSION_K = 10
FEEDBACK_WEIGHT = 0.5

Method = Literal["rrf", "weighted"]
Normalisation = Literal["theoretical", "minmax", "zscore"]

Id = TypeVar("Id", str, int)

_TINY = 1e-300  # of a sum of weights, where nobody is heard
_FLOORS = {"dense": -1.0, "late": -1.0}  # by the first word of a retriever's name; 0 otherwise


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the rankings of several retrievers become one. Callable.

    ``weights`` go by the name of the retriever ("lexical", "dense", ...). One that is not named
    weighs 1, and what it found by feedback ("lexical feedback") half of what it weighs itself.
    A retriever of weight 0 is not heard. ``k`` is for ``rrf``, ``normalisation`` for ``weighted``.
    """

    method: Method = "rrf"
    k: float = FUSION_K
    weights: Mapping[str, float] = field(default_factory=dict)
    normalisation: Normalisation = "theoretical"

    def __post_init__(self) -> None:
        if self.method not in ("rrf", "weighted"):
            raise _unusable(f"{self.method!r} is not a method", "use rrf or weighted")
        if self.normalisation not in ("theoretical", "minmax", "zscore"):
            raise _unusable(
                f"{self.normalisation!r} is not a normalisation",
                "use theoretical, minmax or zscore",
            )
        if not 0 <= self.k < float("inf"):
            raise _unusable(f"k is {self.k}", "give 0 or more")
        for name, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise _unusable(f"the weight of {name!r} is {weight}", "give 0 or more")

    def weight(self, name: str) -> float:
        """What the ranking of a retriever weighs."""
        base = name.removesuffix(" feedback")
        if name in self.weights or name == base:
            return float(self.weights.get(name, 1.0))
        return FEEDBACK_WEIGHT * self.weight(base)

    def __call__(
        self, rankings: Mapping[str, Sequence[tuple[Id, float]]]
    ) -> list[tuple[Id, float]]:
        """Rows (or ids) with their fused scores, best first; equal scores are ordered by row.

        ``rankings``: by name of the retriever, each row once with its score, best first.
        """
        if self.method == "rrf":
            heard = {name: r for name, r in rankings.items() if r and self.weight(name) > 0}
            weights = [self.weight(name) for name in heard]
            rows = [[row for row, _ in ranking] for ranking in heard.values()]
            return reciprocal_rank_fusion(rows, self.k, weights)
        ids, votes, found = self.votes(rankings)
        each = np.array([self.weight(name) for name in rankings])[:, None]  # [rankings, 1]
        # Summed over the first axis, so that rows with equal votes get equal sums.
        total = (each * votes).sum(axis=0) / max(each[found.any(axis=1)].sum(), _TINY)
        some = ((each > 0) & found).any(axis=0)  # [rows]
        fused = [(ids[i], float(total[i])) for i in np.flatnonzero(some)]
        return sorted(fused, key=lambda item: (-item[1], item[0]))

    def votes(
        self, rankings: Mapping[str, Sequence[tuple[Id, float]]]
    ) -> tuple[list[Id], NDArray[np.float64], NDArray[np.bool_]]:
        """What is summed, before weights: rows in order, votes and whether found, each
        [rankings, rows]."""
        ids = sorted({row for ranking in rankings.values() for row, _ in ranking})
        column = {row: i for i, row in enumerate(ids)}
        votes = np.zeros((len(rankings), len(ids)))
        found = np.zeros(votes.shape, np.bool_)
        depth = max(map(len, rankings.values()), default=0)
        for number, (name, ranking) in enumerate(rankings.items()):
            if not ranking:
                continue
            at = [column[row] for row, _ in ranking]
            found[number, at] = True
            if self.method == "rrf":
                votes[number, at] = 1 / (self.k + np.arange(1, len(at) + 1))
            else:
                scores = np.array([score for _, score in ranking], np.float64)
                normal, missing = normalised(scores, self.normalisation, floor(name), depth)
                votes[number] = missing
                votes[number, at] = normal
        return ids, votes, found


DEFAULT_FUSION = Fusion()


def floor(name: str) -> float:
    """The least score that the retriever of this name can give: -1 for cosines, else 0."""
    return _FLOORS.get(name.partition(" ")[0], 0.0)


def normalised(
    scores: NDArray[np.float64], how: Normalisation, least: float, depth: int
) -> tuple[NDArray[np.float64], float]:
    """A ranking's scores [rows] on a common scale, and what a row that it lacks counts.

    ``least`` is the least score possible, ``depth`` how many rows could have been found.
    """
    low, high = scores.min(), scores.max()
    if how == "zscore":
        centre, width = float(scores.mean()), float(scores.std())
    else:
        centre = float(min(low, least) if how == "theoretical" else low)
        width = float(high - centre)
    if not width:  # all rows equal: as good as the best, or neither good nor bad
        same = np.full(len(scores), 0.0 if how == "zscore" else 1.0)
        return same, 0.0
    normal = (scores - centre) / width
    ended = how == "theoretical" and len(scores) < depth
    return normal, 0.0 if ended else float(normal.min())


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[Id]], k: float = K, weights: Sequence[float] | None = None
) -> list[tuple[Id, float]]:
    """Ids with their fused scores, best first; equal scores are ordered by id.

    An id counts at its first place in each ranking. Raises ``ConfigurationError`` where ``k``
    is negative or the weights are not one for each ranking.
    """
    if k < 0:
        raise _unusable(f"k is {k}", "give 0 or more")
    if weights is None:
        weights = [1.0] * len(rankings)
    if len(weights) != len(rankings):
        raise _unusable(
            f"{len(weights)} weights for {len(rankings)} rankings",
            "give one weight for each ranking",
        )
    scores: dict[Id, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        shares = [weight / (k + rank) for rank in range(1, len(ranking) + 1)]
        for identity, share in zip(dict.fromkeys(ranking), shares, strict=False):
            scores[identity] = scores.get(identity, 0.0) + share
    # A stable sort by score of what is in the order of ids: twice as fast as one by pairs.
    return sorted(sorted(scores.items()), key=itemgetter(1), reverse=True)


def _unusable(what: str, fix: str) -> ConfigurationError:
    return ConfigurationError(what, where="rank fusion", fix=fix)


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
