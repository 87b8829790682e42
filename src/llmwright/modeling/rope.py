"""Rotary position embedding: a position is an angle by which pairs of dimensions are turned.

Dimension pair i of a head turns by ``position * theta^(-2i/d)``, so the product of a query at m
and a key at n depends on their contents and on m - n only. Hugging Face's layout is used, in
which the pair of dimension i is i + d/2 (llama.cpp's GGUF files pair 2i with 2i + 1; the
checkpoint reader puts their rows in order).

Su et al., 2021, arXiv 2104.09864. Costs one multiply-add pass over queries and keys and no weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RotaryEmbedding(nn.Module):
    """Tables of cosines and sines, as long as the longest position asked for so far."""

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.theta = theta
        self._cos = self._sin = torch.empty(0)

    def forward(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """``positions`` [batch, time] -> cosines and signed sines [batch, 1, time, head_dim]."""
        longest = int(positions.max()) + 1 if positions.numel() else 0
        if (
            longest > len(self._cos)
            or self._cos.dtype != dtype
            or self._cos.device != positions.device
        ):
            self._build(max(longest, 2 * len(self._cos), 512), positions.device, dtype)
        return self._cos[positions].unsqueeze(1), self._sin[positions].unsqueeze(1)

    def _build(self, length: int, device: torch.device, dtype: torch.dtype) -> None:
        # Angles in float32: bfloat16 could not tell position 257 from 258.
        pair = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device=device)
        frequencies = self.theta ** (-pair / self.head_dim)  # [head_dim / 2]
        places = torch.arange(length, dtype=torch.float32, device=device)
        angles = torch.outer(places, frequencies)  # [length, head_dim / 2]
        sin = angles.sin()
        self._cos = torch.cat((angles.cos(), angles.cos()), dim=-1).to(dtype)
        self._sin = torch.cat((-sin, sin), dim=-1).to(dtype)  # the sign of "rotate half"


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn ``x`` [batch, heads, time, head_dim] by the angles of ``RotaryEmbedding``.

    (a, b) becomes (a cos - b sin, b cos + a sin): swapping the halves is a roll by d/2, and the
    minus sign lies in the table.
    """
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)
