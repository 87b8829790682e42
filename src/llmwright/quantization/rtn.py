"""Round to nearest: each group of a row gets the grid that just covers it.

    symmetric:   s = max|w| / (2^(b-1) - 1),    z = 2^(b-1)
    asymmetric:  s = (max w - min w) / (2^b - 1),    z = round(-min w / s)
    q = clamp(round(w / s) + z, 0, 2^b - 1),    w' = (q - z) s

The range of an asymmetric grid always holds 0, so that its zero point is one of the codes, as
file formats want it. Scales are rounded to half precision before codes are chosen: that is what
files keep, so what is measured is what is saved. A grid for each output channel ("per channel",
``group_size=0``) or for each ``group_size`` input columns of it. No data is needed and a model
takes a second; the methods that ask for data are measured by how much they beat this one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from llmwright.core import ConfigurationError
from llmwright.modeling import QuantizedWeight


@dataclass(frozen=True, slots=True)
class Scheme:
    """What the codes of a weight are: how many bits, for how many columns a scale holds (0: for
    the whole row), and whether zero stands in the middle or anywhere."""

    bits: int = 4
    group_size: int = 64
    symmetric: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ConfigurationError(
                f"{self.bits} bits are not handled", where="bits", fix="use 2 to 8"
            )
        if self.group_size < 0:
            raise ConfigurationError(
                "a group has no negative size", where="group_size", fix="use 0 for whole rows"
            )

    @property
    def highest(self) -> int:
        """The highest code."""
        return int(2**self.bits - 1)

    @property
    def group_bits(self) -> float:
        """Bits that a group takes in a file: a half-precision scale, and its zero point."""
        return 16.0 if self.symmetric else 16.0 + self.bits

    def width(self, columns: int) -> int:
        """Columns of a group in a matrix of so many."""
        return min(self.group_size, columns) or columns


def fit_grid(w: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Scales and zero points [...] for groups ``w`` [..., size], float32."""
    if scheme.symmetric:
        half = 2 ** (scheme.bits - 1)
        scales = w.abs().amax(-1) / (half - 1)
        low = None
    else:
        low = w.amin(-1).clamp_max(0.0)
        scales = (w.amax(-1).clamp_min(0.0) - low) / scheme.highest
    scales = scales.half().float()
    scales = torch.where(scales > 0, scales, 1.0)  # a group of zeros needs some scale
    if low is None:
        return scales, torch.full_like(scales, half)
    return scales, (-low / scales).round().clamp(0, scheme.highest)


def to_codes(w: Tensor, scales: Tensor, zeros: Tensor, scheme: Scheme) -> Tensor:
    """The nearest codes of ``w``, as whole numbers in float32; the three shapes broadcast."""
    return ((w / scales).round() + zeros).clamp(0, scheme.highest)


def in_groups(w: Tensor, width: int) -> Tensor:
    """``w`` [out, in] as [out, groups, width], the last group filled up with zeros."""
    padded = F.pad(w, (0, -w.shape[1] % width))
    return padded.view(w.shape[0], -1, width)


def round_to_nearest(w: Tensor, scheme: Scheme) -> QuantizedWeight:
    """``w`` [out, in] in the codes nearest to it."""
    width = scheme.width(w.shape[1])
    groups = in_groups(w.detach().float(), width)
    scales, zeros = fit_grid(groups, scheme)  # [out, groups]
    codes = to_codes(groups, scales.unsqueeze(-1), zeros.unsqueeze(-1), scheme)
    codes = codes.view(w.shape[0], -1)[:, : w.shape[1]].to(torch.uint8).contiguous()
    return QuantizedWeight(codes, scales, zeros, scheme.bits, width, group_bits=scheme.group_bits)
