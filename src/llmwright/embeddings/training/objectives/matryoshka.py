"""Matryoshka: the first dimensions of a vector are a good, shorter vector.

    loss(v) = sum_k w_k * objective( normalise(v[:k]) )        over the dimensions k

Kusupati et al. (2022), "Matryoshka Representation Learning", arXiv 2205.13147. The model is run
once; only the objective is computed for every k, which costs next to nothing. A vector that is cut
must be scaled to length 1 again: a search by dot product would otherwise favour whatever has most
of its length in front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmwright.core import ConfigurationError


def matryoshka(
    objective: Callable[..., Tensor],
    dimensions: Sequence[int],
    weights: Sequence[float] | None = None,
) -> Callable[..., Tensor]:
    """The objective that is the weighted sum of ``objective`` over ``dimensions``.

    Positional arguments of the result are vectors [n, d], which are cut; the others are passed on
    as they are. Weights are 1 where none are given. Raises ``ConfigurationError`` for dimensions
    below 1, or above the vectors' when it is called.
    """
    shares = list(weights) if weights is not None else [1.0] * len(dimensions)
    if not dimensions or min(dimensions) < 1 or len(shares) != len(dimensions):
        raise ConfigurationError(
            f"dimensions {tuple(dimensions)} with weights {tuple(shares)}",
            where="matryoshka",
            fix="give dimensions of at least 1, each with one weight",
        )

    def loss(*vectors: Tensor, **labels: Any) -> Tensor:
        size = vectors[0].shape[1]
        if max(dimensions) > size:
            raise ConfigurationError(
                f"{max(dimensions)} dimensions of vectors of {size}",
                where="matryoshka",
                fix=f"give dimensions up to {size}",
            )
        parts = [
            weight * objective(*(F.normalize(v[:, :k], dim=1) for v in vectors), **labels)
            for k, weight in zip(dimensions, shares, strict=True)
        ]
        return torch.stack(parts).sum()

    return loss
