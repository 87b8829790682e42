"""Top-p, or nucleus: the smallest set of most probable tokens that reaches mass p.

    p_i = softmax(z)_i;  keep token i while the mass of those ranked before it is below p

so the token that crosses p stays, and one always does. Holtzman, Buys, Du, Forbes, Choi, "The
Curious Case of Neural Text Degeneration", 2020, arXiv 1904.09751.

Costs some passes over the vocabulary; only candidates are sorted (see ``ranking``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmwright.inference.decoding.ranking import reaching


def keep_top_p(logits: Tensor, p: float | Tensor) -> Tensor:
    """All but the most probable tokens that together reach mass ``p`` set to -inf.

    Shapes: logits [..., vocab]; p a number or [..., 1].
    """
    weights = (logits - logits.amax(-1, keepdim=True)).exp_()
    return logits.masked_fill(~reaching(logits, weights, p), -torch.inf)
