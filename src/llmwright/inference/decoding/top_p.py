"""Top-p, or nucleus: the smallest set of most probable tokens that reaches mass p.

    p_i = softmax(z)_i;  keep token i while the mass of those ranked before it is below p

so the token that crosses p stays, and one always does. Holtzman, Buys, Du, Forbes, Choi, "The
Curious Case of Neural Text Degeneration", 2020, arXiv 1904.09751.

Costs a selection of the 1,024 largest logits, and a sort of the vocabulary (tens of times dearer)
only where those do not hold the mass p.
"""

from __future__ import annotations

from torch import Tensor

from llmwright.inference.decoding.ranking import HEAD, keep_first


def keep_top_p(logits: Tensor, p: float | Tensor) -> Tensor:
    """All but the most probable tokens that together reach mass ``p`` set to -inf.

    ``p=1`` keeps all. Shapes: logits [..., vocab]; p a number or [..., 1].
    """
    if not isinstance(p, Tensor) and p >= 1.0:
        return logits
    # Weights against p times their total, not divided by it: equal logits then add up exactly.
    top = logits.amax(-1, keepdim=True)  # [..., 1]
    wanted = p * (logits - top).double().exp().sum(-1, keepdim=True)  # [..., 1]
    values = logits.topk(min(HEAD, logits.shape[-1])).values  # [..., head], falling
    weights = (values - top).double().exp()
    if bool((weights.sum(-1, keepdim=True) <= wanted).any()):  # flat: the head does not reach p
        values = logits.sort(dim=-1, descending=True).values
        weights = (values - top).double().exp()
    before = weights.cumsum(-1) - weights
    count = (before < wanted).sum(-1, keepdim=True).clamp_min(1)  # [..., 1]
    return keep_first(logits, count, values.gather(-1, count - 1))
