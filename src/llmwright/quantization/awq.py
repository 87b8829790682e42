"""AWQ: channels that meet large inputs get a finer grid, by scaling weights up and inputs down.

    W x = (W diag(s)) (diag(s)^-1 x),      s = mean|x|^a / sqrt(max * min of mean|x|^a)

A weight that is multiplied by s before rounding and divided afterwards has its error divided by
about s, as long as s does not widen its group's range. The exponent a is one of 0, 0.05, ...,
0.95, the one with which the block's output (attention, or the MLP, or the layer alone) on
calibration text changes least when the weights are rounded. Afterwards 1 / s goes into what makes
the input: a norm's weights or the rows of the layer before, so nothing is left to compute. With
values into o_proj that works only where each has an output channel of its own, which grouped
queries do not have; there it is left out.

Then each group's range may shrink: of max|w|, 0.95 max|w|, ..., 0.55 max|w| the clip is taken that
changes the layer's output least (not for queries and keys, whose errors multiply). Codes are
nearest ones. No weight is fitted to the calibration text, only one exponent a block and one clip
a group, so AWQ follows that text less than GPTQ does.

Lin, Tang, Tang, Yang, Chen, Wang, Xiao, Dang, Gan, Han, 2023, arXiv 2306.00978. Costs 21 forward
passes over the search text, layer by layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmwright.modeling import Decoder, QuantizedWeight, replace_linears
from llmwright.quantization.rtn import Scheme, fit_grid, in_groups, round_to_nearest, to_codes
from llmwright.quantization.walk import Group, fold, walk

_RATIOS = tuple(step / 20 for step in range(20))
_CLIPS = tuple(1 - step / 20 for step in range(10))
_SEARCHED = 2  # sequences that outputs are compared on
_NO_CLIP = ("q_proj", "k_proj")


@torch.no_grad()
def quantize_awq(
    decoder: Decoder,
    token_ids: Tensor,
    scheme: Scheme,
    *,
    clip: bool = True,
) -> None:
    """Quantize all linear layers but lm_head, in place, on ``token_ids`` [sequences, time].

    Outputs are compared on the first two of them; means and clips use all. Norms (and up_proj,
    v_proj) change too: the folded model, before rounding, computes what it did.
    """
    weights: dict[str, QuantizedWeight] = {}
    waiting: dict[str, nn.Linear] = {}
    for group in walk(decoder, token_ids, "AWQ"):
        inputs = group.inputs
        if group.before is not None:
            factors = channel_factors(group, scheme)
            fold(group, factors)
            inputs = inputs / factors
        for name, linear in zip(group.names, group.linears, strict=True):
            waiting[name] = linear
            if clip and not name.endswith(_NO_CLIP):
                linear.weight.copy_(clipped(linear.weight, inputs.flatten(0, 1), scheme))
        if group.last:  # up_proj's rows took the factors of down_proj: now they are final
            for name, linear in waiting.items():
                weights[name] = round_to_nearest(linear.weight, scheme)
                linear.weight.copy_(weights[name].dequantize())
            waiting.clear()
    replace_linears(decoder, weights)


def channel_factors(group: Group, scheme: Scheme) -> Tensor:
    """The factor s [in] of each input channel that harms the block's output least."""
    mean = group.inputs.abs().flatten(0, 1).float().mean(0)  # [in]
    inputs = group.inputs[:_SEARCHED]
    wanted = group.block(inputs)
    kept = [linear.weight.clone() for linear in group.linears]
    best, least = torch.ones_like(mean), float("inf")
    for ratio in _RATIOS:
        factors = mean.pow(ratio).clamp_min(1e-4)
        factors = factors / (factors.max() * factors.min()).sqrt()
        for linear, weight in zip(group.linears, kept, strict=True):
            rounded = round_to_nearest(weight * factors, scheme).dequantize()
            linear.weight.copy_(rounded / factors)
        loss = float((group.block(inputs) - wanted).float().square().mean())
        if loss < least:
            best, least = factors, loss
    for linear, weight in zip(group.linears, kept, strict=True):
        linear.weight.copy_(weight)
    return best


def clipped(weight: Tensor, inputs: Tensor, scheme: Scheme) -> Tensor:
    """``weight`` [out, in] with each group limited to the range whose codes change products with
    ``inputs`` [tokens, in] least.

    A group's error is d^T G d with d [size] its change and G [size, size] the sum of x x^T over
    its inputs, so the text is read once and not once for each clip.
    """
    width = scheme.width(weight.shape[1])
    groups = in_groups(weight.float(), width)  # [out, groups, size]
    by_group = in_groups(inputs.float(), width).transpose(0, 1)  # [groups, tokens, size]
    gram = by_group.transpose(1, 2) @ by_group  # [groups, size, size]
    largest = groups.abs().amax(-1, keepdim=True)  # [out, groups, 1]
    best = groups
    least = torch.full(groups.shape[:2], float("inf"), device=weight.device)
    for share in _CLIPS:
        limit = largest * share
        trial = groups.clamp(-limit, limit)
        scales, zeros = (grid.unsqueeze(-1) for grid in fit_grid(trial, scheme))
        rounded = (to_codes(trial, scales, zeros, scheme) - zeros) * scales
        change = (rounded - groups).transpose(0, 1)  # [groups, out, size]
        error = ((change @ gram) * change).sum(-1).T  # [out, groups]
        better = error < least
        least = torch.where(better, error, least)
        best = torch.where(better.unsqueeze(-1), trial, best)
    return best.flatten(1)[:, : weight.shape[1]].contiguous()
