"""Supervised fine-tuning: make the given answers likely.

    loss = - sum_i m_i log p(y_i | x, y_<i) / sum over the whole batch of m_i

where the mask m is 1 on the tokens that the assistant has to say. The divisor counts the tokens
of the *whole* batch, over all passes whose gradients are accumulated and over all processes:
the mean of the passes' means would weigh a token of a short answer more than one of a long answer,
and change the gradient with the number of passes (transformers issue 34191).

The instruction form with loss on the answer alone: Ouyang et al., 2022, arXiv 2203.02155.
"""

from __future__ import annotations

from torch import Tensor


def sft_loss(logprobs: Tensor, mask: Tensor, total: int) -> Tensor:
    """One pass's share of the loss of a batch; the shares of all passes add up to it.

    ``logprobs`` [batch, time] of the tokens that stand there, ``mask`` the same shape with True
    on those to learn, ``total`` the learnt tokens of the whole batch. What stands under False may
    be anything, even infinite or NaN.
    """
    return -logprobs.masked_fill(~mask, 0.0).sum() / total
