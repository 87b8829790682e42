"""Learn from judged queries how rankings should be fused, without fooling oneself.

Tried are reciprocal ranks and weighted sums under each normalisation, with the retrievers' weights
on a grid over the simplex (steps of a tenth: 0.4 to 0.6, the classic, is one of 11 points for two
retrievers) and what they found by feedback at 0, a half or the whole of their own weight:

    w* = argmax over w of  mean over queries q of  metric(fuse_w(q), relevant(q))

The best of hundreds of points looks better than it is, on 50 queries by more than the gain that is
sought. So the choice itself is put to the test: the queries are dealt to folds, for each fold w is
learned on the others and judged on it, and only where the paired 95% interval of these unseen
queries' gains over the default lies above 0, and there are 20 of them, is w* of all queries
given; else the default.

Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", 2022, arXiv
2210.11934, learn the one weight of two retrievers from a few dozen queries. Costs points * rows
multiplications a query, once: a second for 100 queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from llmwright.core import ConfigurationError, Score
from llmwright.retrieval.ranking.fusion import DEFAULT_FUSION, Fusion
from llmwright.statistics import paired_bootstrap

Id = TypeVar("Id", str, int)
Metric = Literal["ndcg@10", "mrr@10", "recall@10", "hit@1"]
Rankings = Mapping[str, Sequence[tuple[Id, float]]]

_STEPS = 10  # of a weight, between 0 and 1
_FEEDBACK = (0.0, 0.5, 1.0)
_FEWEST = 20  # of fewer gains the bootstrap interval is too narrow to choose by
_SAME = 1e-9  # values that differ by less are equal: the order of sums changes the last bits


@dataclass(frozen=True, slots=True)
class LearnedFusion:
    """``fusion`` is what should be used: ``best`` where its ``gain`` on unseen queries is told
    apart from chance, else the default. ``values`` and ``default_values`` (by query) are of
    ``best`` and of the default on the queries learned from: what is learned looks better there."""

    fusion: Fusion
    best: Fusion
    gain: Score
    values: tuple[float, ...]
    default_values: tuple[float, ...]


def learn_fusion(
    rankings: Sequence[Rankings[Id]],
    relevant: Sequence[AbstractSet[Id]],
    metric: Metric = "ndcg@10",
    *,
    unit: Callable[[Id], Id] | None = None,
    folds: int = 10,
    seed: int = 0,
) -> Fusion:
    """The fusion to use for queries like these: :func:`judge_fusions`'s, in short."""
    return judge_fusions(rankings, relevant, metric, unit=unit, folds=folds, seed=seed).fusion


def judge_fusions(
    rankings: Sequence[Rankings[Id]],
    relevant: Sequence[AbstractSet[Id]],
    metric: Metric = "ndcg@10",
    *,
    unit: Callable[[Id], Id] | None = None,
    folds: int = 10,
    seed: int = 0,
) -> LearnedFusion:
    """Learn a fusion and say how much it gains on queries it was not learned from.

    ``rankings``: for each query what each retriever found (``Index.rankings``); ``relevant``: for
    each query the ids that should be found. Where those are documents and the rankings are of
    chunks, ``unit`` names a chunk's document. Queries without a relevant id are left out. ``seed``
    deals the queries to folds. Raises ``ConfigurationError`` for a metric that is not one, and
    where there are not as many sets as rankings.
    """
    if len(rankings) != len(relevant) or metric not in _METRICS:
        raise ConfigurationError(
            f"{len(rankings)} rankings, {len(relevant)} sets of relevant ids, metric {metric!r}",
            where="learning of a fusion",
            fix=f"give one set for each query, and one of {', '.join(_METRICS)}",
        )
    pairs = [(r, wanted) for r, wanted in zip(rankings, relevant, strict=True) if wanted]
    points = candidates({name for ranking, _ in pairs for name in ranking})
    table = np.empty((len(points), len(pairs)))  # the metric of each point for each query
    for column, (ranking, wanted) in enumerate(pairs):
        table[:, column] = _values(points, ranking, wanted, metric, unit)
    unseen = np.empty(len(pairs))
    fold = np.random.default_rng(seed).permutation(len(pairs)) % max(folds, 2)
    for number in range(max(folds, 2)):
        others = table[:, fold != number]
        unseen[fold == number] = table[_best(others), fold == number]
    gain = paired_bootstrap(table[0].tolist(), unseen.tolist(), seed)
    best = _best(table)
    better = len(pairs) >= _FEWEST and gain.low is not None and gain.low > 0
    return LearnedFusion(
        fusion=points[best] if better else DEFAULT_FUSION,
        best=points[best],
        gain=gain,
        values=tuple(table[best].tolist()),
        default_values=tuple(table[0].tolist()),
    )


def candidates(names: AbstractSet[str]) -> list[Fusion]:
    """The fusions that are tried for retrievers of these names; the default is the first."""
    bases = sorted({name.removesuffix(" feedback") for name in names})
    shares = _FEEDBACK if any(name.endswith(" feedback") for name in names) else (0.5,)
    kinds = [DEFAULT_FUSION, *(Fusion("weighted", normalisation=n) for n in _NORMALISATIONS)]
    found = [DEFAULT_FUSION]
    for weights in simplex(len(bases), _STEPS):
        for share in shares:
            named = dict(zip(bases, weights, strict=True))
            named |= {
                name: share * named[name.removesuffix(" feedback")]
                for name in sorted(names - set(bases))
            }
            found += [Fusion(k.method, k.k, named, k.normalisation) for k in kinds]
    return found


def simplex(parts: int, steps: int) -> list[tuple[float, ...]]:
    """All ways to cut 1 in ``parts`` multiples of 1 / ``steps``, the evenest first."""
    if not parts:
        return []
    cuts = combinations(range(steps + parts - 1), parts - 1)  # bars between stars
    edges = [(-1, *cut, steps + parts - 1) for cut in cuts]
    counts = [tuple(b - a - 1 for a, b in pairwise(e)) for e in edges]
    counts.sort(key=lambda count: (sum(c * c for c in count), count))
    return [tuple(c / steps for c in count) for count in counts]


def _best(table: NDArray[np.float64]) -> int:
    """The point [points, queries] with the best mean; of equal ones the first."""
    means = table.mean(axis=1) if table.shape[1] else np.zeros(len(table))
    return int(np.flatnonzero(means >= means.max() - _SAME)[0])


def _values(
    points: Sequence[Fusion],
    rankings: Rankings[Id],
    relevant: AbstractSet[Id],
    metric: Metric,
    unit: Callable[[Id], Id] | None,
) -> NDArray[np.float64]:
    """The metric of one query under each point: [points]."""
    values = np.empty(len(points))
    kinds = {(p.method, p.k, p.normalisation) for p in points}
    for kind in kinds:
        of_kind = [i for i, p in enumerate(points) if (p.method, p.k, p.normalisation) == kind]
        ids, votes, found = points[of_kind[0]].votes(rankings)
        weights = np.array([[points[i].weight(name) for name in rankings] for i in of_kind])
        scores = np.zeros((len(of_kind), len(ids)))  # [points of the kind, rows]
        for number in range(len(rankings)):
            scores += weights[:, number, None] * votes[number]
        scores[(weights > 0).astype(np.float64) @ found == 0] = -np.inf
        values[of_kind] = _METRICS[metric](_places(ids, scores, relevant, unit), len(relevant))
    return values


def _places(
    ids: Sequence[Id],
    scores: NDArray[np.float64],
    relevant: AbstractSet[Id],
    unit: Callable[[Id], Id] | None,
) -> NDArray[np.float64]:
    """At which place each relevant id that was found stands, from 1: [points, found]."""
    units = [unit(i) for i in ids] if unit is not None else list(ids)
    number = {u: n for n, u in enumerate(dict.fromkeys(units))}
    best = np.full((len(scores), len(number)), -np.inf)  # a document stands where its first chunk
    for row, u in enumerate(units):
        np.maximum(best[:, number[u]], scores[:, row], out=best[:, number[u]])
    places = np.full((len(scores), len(relevant)), np.inf)
    for column, u in enumerate(sorted(relevant & number.keys())):
        own = best[:, number[u], None]
        before = (best > own).sum(axis=1) + (best[:, : number[u]] == own).sum(axis=1)
        places[:, column] = np.where(own[:, 0] > -np.inf, before + 1, np.inf)
    return places


def _ndcg(places: NDArray[np.float64], wanted: int, k: int = 10) -> NDArray[np.float64]:
    gains = np.where(places <= k, 1 / np.log2(places + 1), 0.0).sum(axis=1)
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, wanted) + 1))
    return np.asarray(gains / ideal, np.float64)


def _mrr(places: NDArray[np.float64], wanted: int, k: int = 10) -> NDArray[np.float64]:
    first = places.min(axis=1)
    return np.asarray(np.where(first <= k, 1 / first, 0.0), np.float64)


def _recall(places: NDArray[np.float64], wanted: int, k: int = 10) -> NDArray[np.float64]:
    return np.asarray((places <= k).sum(axis=1) / wanted, np.float64)


def _hit(places: NDArray[np.float64], wanted: int) -> NDArray[np.float64]:
    return np.asarray((places <= 1).any(axis=1), np.float64)


_NORMALISATIONS: tuple[Literal["theoretical", "minmax", "zscore"], ...] = (
    "theoretical",
    "minmax",
    "zscore",
)
_METRICS: dict[str, Callable[[NDArray[np.float64], int], NDArray[np.float64]]] = {
    "ndcg@10": _ndcg,
    "mrr@10": _mrr,
    "recall@10": _recall,
    "hit@1": _hit,
}
