"""Weights in a few bits: one form for every method, and the layer that computes with it.

    w[o, i] = (codes[o, i] - zeros[o, g]) * scales[o, g],      g = group[i]

Codes are whole numbers of ``bits`` bits; each group of input columns of each row has a scale and
a zero point. All uniform methods differ in how they choose the three, not in what they are:
round-to-nearest, GPTQ, AWQ, and GGUF's Q8_0, Q4_0, Q4_1 and Q4_K (whose minimum m is the zero
point -m / scale). With a ``codebook`` the codes are names of values instead, as in NF4:
``w = codebook[codes] * scales``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A matrix [out, in] in ``bits`` bits.

    Shapes: codes [out, in] uint8; scales and zeros [out, groups] float32; group [in] int64 names
    each column's group where they are not in order (GPTQ with act-order), else None and column i
    belongs to group ``i // group_size``. A zero point need not be a whole number.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor
    bits: int
    group_size: int
    group: Tensor | None = None
    codebook: Tensor | None = None  # [2 ** bits] float32
    minima: Tensor | None = None  # [out, groups] float32, equal to -zeros * scales but for rounding

    @property
    def shape(self) -> torch.Size:
        return self.codes.shape

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix [out, in] that the codes stand for."""
        scales = self._spread(self.scales)  # [out, in]
        if self.codebook is not None:
            return (self.codebook[self.codes.long()] * scales).to(dtype)
        if self.minima is not None:
            return (self.codes.float() * scales + self._spread(self.minima)).to(dtype)
        return ((self.codes.float() - self._spread(self.zeros)) * scales).to(dtype)

    def _spread(self, values: Tensor) -> Tensor:
        """Each group's value, [out, groups], at each of its columns, [out, in]."""
        if self.group is not None:
            return values[:, self.group]
        return values.repeat_interleave(self.group_size, dim=1)[:, : self.codes.shape[1]]


class QuantizedLinear(nn.Module):
    """A linear layer over a ``QuantizedWeight``, in place of ``nn.Linear``."""

    def __init__(self, weight: QuantizedWeight, bias: Tensor | None = None) -> None:
        super().__init__()
        self.quantized = weight
        self.bias = bias

    @property
    def out_features(self) -> int:
        return self.quantized.shape[0]

    @property
    def in_features(self) -> int:
        return self.quantized.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.quantized.dequantize(x.dtype), self.bias)
