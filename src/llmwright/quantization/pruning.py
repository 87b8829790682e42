"""Pruning: weights that are small become zero.

Unstructured, the given share of each matrix's weights goes, those with the least magnitude
(Han, Pool, Tran, Dally, 2015, arXiv 1506.02626). 2:4 keeps the two largest of every four
neighbours in a row, the pattern that sparse tensor cores of GPUs multiply at up to twice the
speed (Mishra et al., 2021, arXiv 2104.08378). On a processor zeros are read and multiplied like
any weight: pruning here shows what it does to quality. Takes a second; without training
afterwards a half of the weights is more than a small model can miss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmwright.core import ConfigurationError
from llmwright.modeling import Decoder
from llmwright.quantization.walk import linear_layers


def magnitude_mask(w: Tensor, sparsity: float) -> Tensor:
    """Which weights of ``w`` stay when the smallest ``sparsity`` of them go: bool, like ``w``."""
    if not 0 <= sparsity < 1:
        raise ConfigurationError(
            f"a share of {sparsity} cannot be pruned",
            where="sparsity",
            fix="use 0 or more, below 1",
        )
    gone = round(sparsity * w.numel())
    mask = torch.ones(w.numel(), dtype=torch.bool, device=w.device)
    mask[w.abs().flatten().argsort(stable=True)[:gone]] = False
    return mask.view_as(w)


def two_of_four_mask(w: Tensor) -> Tensor:
    """Which weights of ``w`` [out, in] stay when each four neighbours keep their two largest."""
    if w.shape[1] % 4:
        raise ConfigurationError(
            f"rows of {w.shape[1]} weights do not fall into fours", fix="prune by share instead"
        )
    fours = w.abs().view(w.shape[0], -1, 4)
    keep = fours.argsort(stable=True, dim=-1, descending=True)[..., :2]
    return torch.zeros_like(fours, dtype=torch.bool).scatter_(-1, keep, True).view(w.shape)


@torch.no_grad()
def prune(decoder: Decoder, sparsity: float | None = None) -> None:
    """Prune all linear layers but lm_head, in place: the smallest ``sparsity`` of each matrix, or
    2:4 where None."""
    for linear in linear_layers(decoder).values():
        weight = linear.weight
        mask = two_of_four_mask(weight) if sparsity is None else magnitude_mask(weight, sparsity)
        weight.mul_(mask)
