"""CoSENT: a pair that people scored higher has the higher cosine.

    loss = log( 1 + sum_{(i, j): y_i < y_j} exp(scale * (cos_i - cos_j)) )

Only the order of the scores y counts, not their distance, and pairs of equal score say nothing
about each other: scores from 0 to 5, 0 and 1, or ranks are all welcome.

Huang, Peng, Zou, Liu, Li, Liu, Wu, Su, Yu (2024), "CoSENT: Consistent Sentence Embedding via
Similarity Ranking", doi 10.1109/TASLP.2024.3402087. Cost: n^2 differences of n cosines.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cosent(first: Tensor, second: Tensor, *, scores: Tensor, scale: float = 20.0) -> Tensor:
    """The loss of n pairs ``first`` and ``second`` [n, d] with their ``scores`` [n]."""
    cosines = scale * F.cosine_similarity(first, second)  # [n]
    differences = cosines[:, None] - cosines[None, :]  # [n, n]
    wrong = differences[scores[:, None] < scores[None, :]]  # only pairs that have an order
    return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), dim=0)
