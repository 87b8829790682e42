"""Locally typical sampling: tokens whose surprise is near what is expected.

    H = - sum_i p_i log p_i
    rank tokens by |-log p_i - H|, smallest first; keep the shortest prefix of mass >= tau

so the token that crosses tau stays. Terms of probability 0 add nothing to H. The most probable
token may be dropped: it can be less surprising than text usually is. Meister, Pimentel, Wiher,
Cotterell, "Locally Typical Sampling", 2022, arXiv 2202.00666.

Of tokens equally far from H the lower ids come first, and the prefix ends exactly at the mass;
transformers keeps all that are equally far as the last. Costs what top-p costs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmwright.inference.decoding.ranking import reaching


def keep_typical(logits: Tensor, mass: float | Tensor) -> Tensor:
    """All but the most typical tokens that together reach ``mass`` set to -inf.

    Shapes: logits [..., vocab]; mass a number or [..., 1].
    """
    logp = logits.log_softmax(-1)  # [..., vocab]
    p = logp.exp()
    entropy = torch.special.entr(p).sum(-1, keepdim=True)  # [..., 1], and 0 log 0 = 0
    return logits.masked_fill(~reaching(-(logp + entropy).abs(), p, mass), -torch.inf)
