"""NF4: sixteen levels where a normal distribution has its mass, with scales quantized again.

Trained weights are close to normal, so levels that each stand for an equal share of a normal
distribution waste less than evenly spaced ones. The levels are quantiles between 1 - d and d,
d = (1 - 1/30 + 1 - 1/32) / 2 = 0.9677, seven below zero, zero itself and eight above, over the
largest::

    level_i = Phi^-1(p_i) / Phi^-1(d),    w' = level[q] * max|w| of its group of 64

Double quantization keeps the groups' scales in 8 bits: their mean over the matrix is taken away
and what remains is stored as 8-bit floats (e4m3) with one 32-bit scale for 256 groups. That is
4 + 8/64 + 32/(64 * 256) = 4.127 bits a weight, in place of 4.5 with 32-bit scales.

Dettmers, Pagnoni, Holtzman, Zettlemoyer, 2023 (QLoRA), arXiv 2305.14314. No data is needed. It is
made for training adapters over a frozen base: no packed product is quick with it on a processor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmwright.modeling import QuantizedWeight
from llmwright.quantization.rtn import in_groups

_GROUP = 64  # weights of a scale
_SCALES = 256  # scales of a second scale
_E4M3_LARGEST = 448.0


def nf4_levels() -> Tensor:
    """The 16 levels, ascending from -1 to 1, float32."""
    furthest = 0.5 * ((1 - 1 / 30) + (1 - 1 / 32))

    def quantiles(count: int) -> Tensor:  # from the furthest towards, but without, the middle
        places = torch.linspace(furthest, 0.5, count + 1, dtype=torch.float64)[:-1]
        found: Tensor = torch.special.ndtri(places)
        return found

    below, above = -quantiles(7), quantiles(8).flip(0)
    levels = torch.cat((below, torch.zeros(1, dtype=torch.float64), above))
    return (levels / levels.max()).float()


def round_to_nf4(w: Tensor) -> QuantizedWeight:
    """``w`` [out, in] as NF4, its scales in 8 bits too."""
    levels = nf4_levels().to(w.device)
    groups = in_groups(w.detach().float(), _GROUP)  # [out, groups, 64]
    scales = double_quantized(groups.abs().amax(-1))  # [out, groups]
    scales = torch.where(scales > 0, scales, 1.0)
    middles = (levels[1:] + levels[:-1]) / 2
    codes = torch.bucketize(groups / scales.unsqueeze(-1), middles)
    codes = codes.view(w.shape[0], -1)[:, : w.shape[1]].to(torch.uint8).contiguous()
    return QuantizedWeight(
        codes,
        scales,
        torch.zeros_like(scales),
        4,
        _GROUP,
        codebook=levels,
        group_bits=8 + 32 / _SCALES,
    )


def double_quantized(scales: Tensor) -> Tensor:
    """Scales [out, groups] as 8-bit floats about their mean, with a scale for each 256."""
    mean = scales.mean()
    flat = in_groups((scales - mean).reshape(1, -1), _SCALES)[0]  # [second scales, 256]
    second = flat.abs().amax(-1, keepdim=True).clamp_min(1e-30) / _E4M3_LARGEST
    stored = (flat / second).to(torch.float8_e4m3fn)
    back = stored.float() * second
    return (back.reshape(-1)[: scales.numel()] + mean).view_as(scales)
