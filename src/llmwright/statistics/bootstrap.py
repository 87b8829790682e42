"""Percentile bootstrap intervals of a mean, and of a paired difference of means.

Draw ``resamples`` samples of size n from the n values with replacement, take the mean of each,
and report the (1 - level)/2 and (1 + level)/2 quantiles of those means:

    theta*_b = (1/n) sum_i x[J_bi],  J_bi ~ Uniform{0..n-1},   [Q(alpha/2), Q(1 - alpha/2)]

Efron, "Bootstrap Methods: Another Look at the Jackknife" (1979); Efron and Tibshirani, "An
Introduction to the Bootstrap" (1993), chapter 13. Cost: resamples * n draws, done in blocks, so
memory stays near 32 MB whatever n is.

What it does not know: values outside the sample. When all n values are equal (30 of 30 right)
the interval has no width, and below about 20 values it is too narrow; say n beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmwright.core import ConfigurationError, Score

_BLOCK = 1 << 22  # indices drawn at once


def bootstrap_interval(
    values: Sequence[float], *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float | None, float | None]:
    """The interval of the mean of ``values``; equal arguments give equal intervals.

    No value: ``(None, None)``, there is nothing to say. One value: ``(x, x)``, degenerate, for
    one draw tells nothing about its spread. Raises ``ConfigurationError`` for a value that is
    not finite, fewer than 1 resample, or a level outside (0, 1).
    """
    if resamples < 1 or not 0.0 < level < 1.0:
        raise ConfigurationError(
            f"resamples is {resamples} and level {level}",
            where="bootstrap",
            fix="use at least 1 resample and a level between 0 and 1",
        )
    x = np.asarray(values, dtype=np.float64)  # [n]
    if not np.isfinite(x).all():
        raise ConfigurationError(
            "a value is not a finite number",
            where="bootstrap",
            fix="pass None for examples that could not be scored",
        )
    if x.size == 0:
        return None, None
    if x.size == 1:
        return float(x[0]), float(x[0])
    means = _resampled_means(x, np.random.default_rng(seed), resamples)  # [resamples]
    tail = 100.0 * (1.0 - level) / 2.0
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)


def _resampled_means(
    x: NDArray[np.float64], rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    rows = max(1, _BLOCK // x.size)
    blocks = []
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, x.size, (min(rows, resamples - start), x.size))  # [rows, n]
        blocks.append(x[drawn].mean(axis=1))  # [rows]
    return np.concatenate(blocks)


def mean_score(name: str, values: Sequence[float | None], seed: int = 0) -> Score:
    """The mean with its 95% interval. ``None`` marks an example that could not be scored: it is
    left out of the mean and of ``n``, and counted in ``Score.unscored``."""
    scored = [float(v) for v in values if v is not None]
    low, high = bootstrap_interval(scored, seed=seed)
    return Score(
        name=name,
        value=math.fsum(scored) / len(scored) if scored else None,
        low=low,
        high=high,
        n=len(scored),
        unscored=len(values) - len(scored),
    )


def paired_bootstrap(a: Sequence[float | None], b: Sequence[float | None], seed: int = 0) -> Score:
    """Mean of ``b - a`` over the same examples in the same order, with its 95% interval.

    Resampling the pairs keeps the examples' common difficulty out of the interval, which makes
    it narrower than two separate ones. Pairs with a ``None`` are left out and counted. The
    difference is told apart from chance when 0 lies outside [low, high].
    """
    if len(a) != len(b):
        raise ConfigurationError(
            f"{len(a)} values against {len(b)}",
            where="paired bootstrap",
            fix="pass both systems' values for the same examples in the same order",
        )
    differences = [
        None if x is None or y is None else float(y) - float(x) for x, y in zip(a, b, strict=True)
    ]
    return mean_score("difference", differences, seed)
