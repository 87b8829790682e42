"""The learning rate over a run: linear warm-up, then half a cosine down to almost nothing.

    rate(t) = peak * (t + 1) / w                                     for t < w
    rate(t) = peak * (1 + cos(pi * (t - w) / (n - w))) / 2           for w <= t < n

Loshchilov & Hutter, 2016, arXiv 1608.03983 (cosine); Goyal et al., 2017, arXiv 1706.02677
(warm-up). The first step already learns: libraries that begin at rate 0 waste one.
"""

from __future__ import annotations

from math import ceil, cos, pi


def cosine_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """The rate of ``step``, counted from 0, of ``steps``; ``warmup`` is a share of the steps."""
    warm = ceil(steps * warmup)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (1 + cos(pi * (step - warm) / (steps - warm))) / 2
