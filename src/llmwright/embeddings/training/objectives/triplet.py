"""Triplet: the right document is nearer to the query than the wrong one, by a margin.

    loss = mean( max(0, D(q, d+) - D(q, d-) + margin) ),    D = 1 - cos, or Euclidean

Schroff, Kalenichenko, Philbin (2015), "FaceNet", arXiv 1503.03832. A triplet that is right by the
margin gives no gradient, so its negatives must be hard ones (``mining.py``); where most of a batch
is right already, ``ranking`` learns more from the same texts. Cost: two distances a triplet.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor


def triplet(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    margin: float = 0.2,
    distance: Literal["cosine", "euclidean"] = "cosine",
) -> Tensor:
    """The loss of n triplets, each argument [n, d]. A cosine distance lies between 0 and 2."""

    def away(documents: Tensor) -> Tensor:
        if distance == "cosine":
            return 1 - F.cosine_similarity(queries, documents)
        return F.pairwise_distance(queries, documents)

    return F.relu(away(positives) - away(negatives) + margin).mean()
