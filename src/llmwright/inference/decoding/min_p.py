"""Min-p: tokens at least so likely as a share of the likeliest.

    keep i where  p_i >= m max_j p_j,  which is  z_i >= max_j z_j + ln m

The threshold is low where the model is unsure and high where it is sure, which holds the text
together at temperatures above 1. Nguyen et al., "Turning Up the Heat: Min-p Sampling for Creative
and Coherent LLM Outputs", 2024, arXiv 2407.01082. Costs two passes over the vocabulary, no sort.
"""

from __future__ import annotations

import torch
from torch import Tensor


def keep_min_p(logits: Tensor, share: float | Tensor) -> Tensor:
    """Tokens less likely than ``share`` times the likeliest set to -inf.

    Shapes: logits [..., vocab]; share a number or [..., 1]. The likeliest always stay.
    """
    least = logits.amax(-1, keepdim=True) + torch.as_tensor(share).log()  # [..., 1]
    return logits.masked_fill(logits < least, -torch.inf)
