"""Margin-MSE: by how much one document fits better than another, as the teacher says.

    loss = mean over the negatives of ( (q . d+  -  q . d-) - margin )^2

The teacher, often a cross-encoder, gives only differences of scores, so student and teacher may
score on different scales' zero points; and a "negative" that answers the question gets a small
margin instead of being pushed away.

Hofstätter, Althammer, Schröder, Sertkan, Hanbury (2021), arXiv 2010.02666. Cost: one product of
vectors a document.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def margin_mse(queries: Tensor, positives: Tensor, negatives: Tensor, *, margins: Tensor) -> Tensor:
    """The loss of n queries [n, d] with one positive and one negative document each; ``margins``
    [n] are the teacher's score of the positive less its score of the negative."""
    own = (queries * positives).sum(1) - (queries * negatives).sum(1)  # [n]
    return F.mse_loss(own, margins)
