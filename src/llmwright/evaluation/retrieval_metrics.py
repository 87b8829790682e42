"""Recall, precision, reciprocal rank, average precision and nDCG of one ranked list, as trec_eval
computes them.

    recall@k    = |relevant in the first k| / |relevant|
    precision@k = |relevant in the first k| / k          (k, also where fewer were returned)
    RR          = 1 / rank of the first relevant item, 0 where there is none
    AP@k        = sum_{i <= k, item i relevant} precision@i / |relevant|       (its mean is MAP)
    DCG@k       = sum_{i=1..k} gain_i / log2(1 + i),     nDCG@k = DCG@k / DCG@k of the best order

Järvelin and Kekäläinen, "Cumulated Gain-based Evaluation of IR Techniques" (2002), with linear
gains as trec_eval has them (not 2^gain - 1). Cost: one pass over the list.

``relevant`` is a collection of ids (binary) or a mapping from id to gain (graded; an id counts
as relevant when its gain is above 0). An id listed twice counts at its first place. Where
nothing is relevant the figure does not exist and is None; trec_eval leaves such queries out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from llmwright.core import ConfigurationError

Relevant = Collection[str] | Mapping[str, float]


def _gains(relevant: Relevant) -> dict[str, float]:
    graded = relevant if isinstance(relevant, Mapping) else dict.fromkeys(relevant, 1.0)
    return {item: float(gain) for item, gain in graded.items() if gain > 0}


def _first(ranked: Sequence[str], k: int | None) -> list[str]:
    if k is not None and k < 1:
        raise ConfigurationError(f"k is {k}", where="retrieval metric", fix="use k of 1 or more")
    return list(dict.fromkeys(ranked))[:k]


def recall_at_k(ranked: Sequence[str], relevant: Relevant, k: int) -> float | None:
    """Share of the relevant items that stand among the first ``k``."""
    gains = _gains(relevant)
    found = sum(item in gains for item in _first(ranked, k))
    return found / len(gains) if gains else None


def precision_at_k(ranked: Sequence[str], relevant: Relevant, k: int) -> float | None:
    """Share of the first ``k`` places that hold a relevant item."""
    gains = _gains(relevant)
    found = sum(item in gains for item in _first(ranked, k))
    return found / k if gains else None


def reciprocal_rank(
    ranked: Sequence[str], relevant: Relevant, k: int | None = None
) -> float | None:
    """1 over the rank of the first relevant item, looking at ``k`` places or all."""
    gains = _gains(relevant)
    ranks = (i for i, item in enumerate(_first(ranked, k), start=1) if item in gains)
    first = next(ranks, None)
    if not gains:
        return None
    return 1.0 / first if first else 0.0


def average_precision(
    ranked: Sequence[str], relevant: Relevant, k: int | None = None
) -> float | None:
    """Precision at the rank of each relevant item, 0 for one that is not among the first ``k``
    (or all), averaged over the relevant items."""
    gains = _gains(relevant)
    if not gains:
        return None
    ranks = [i for i, item in enumerate(_first(ranked, k), start=1) if item in gains]
    return math.fsum(found / i for found, i in enumerate(ranks, start=1)) / len(gains)


def ndcg_at_k(ranked: Sequence[str], relevant: Relevant, k: int | None = None) -> float | None:
    """Normalised discounted cumulative gain over ``k`` places or all."""
    gains = _gains(relevant)
    if not gains:
        return None
    gained = [gains.get(item, 0.0) for item in _first(ranked, k)]
    best = sorted(gains.values(), reverse=True)[:k]
    return _dcg(gained) / _dcg(best)


def _dcg(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(1 + i) for i, gain in enumerate(gains, start=1))
