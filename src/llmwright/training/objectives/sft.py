"""Supervised fine-tuning: make the given answers likely.

    loss = - sum_i log p(y_i | x, y_<i) / n

over the n tokens that the assistant has to say. They are counted over the *whole* batch, over all
passes whose gradients are accumulated and over all processes:
the mean of the passes' means would weigh a token of a short answer more than one of a long answer,
and change the gradient with the number of passes (transformers issue 34191).

The instruction form with loss on the answer alone: Ouyang et al., 2022, arXiv 2203.02155.
"""

from __future__ import annotations

from torch import Tensor


def sft_loss(logprobs: Tensor, total: int) -> Tensor:
    """One pass's share of the loss of a batch; the shares of all passes add up to it.

    ``logprobs`` [targets] of the tokens to learn in this pass, ``total`` their number in the whole
    batch.
    """
    return -logprobs.sum() / total
