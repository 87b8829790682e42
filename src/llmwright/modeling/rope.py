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
        # One attribute for both, so that threads which share the model see a whole pair.
        self._tables: tuple[Tensor, Tensor] | None = None

    def forward(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """``positions`` [batch, time] -> cosines and signed sines [batch, 1, time, head_dim]."""
        longest = int(positions.max()) + 1 if positions.numel() else 0
        tables = self._tables
        if (
            tables is None
            or longest > len(tables[0])
            or tables[0].dtype != dtype
            or tables[0].device != positions.device
        ):
            self._tables = tables = self._build(longest, positions.device, dtype)
        cos, sin = tables
        return cos[positions].unsqueeze(1), sin[positions].unsqueeze(1)

    @torch.inference_mode(False)  # a table made while generating must serve training as well
    @torch.no_grad()
    def _build(
        self, longest: int, device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        length = max(512, 1 << (longest - 1).bit_length())
        # Angles in float32: bfloat16 could not tell position 257 from 258.
        pair = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device=device)
        frequencies = self.theta ** (-pair / self.head_dim)  # [head_dim / 2]
        places = torch.arange(length, dtype=torch.float32, device=device)
        angles = torch.outer(places, frequencies)  # [length, head_dim / 2]
        cos, sin = angles.cos(), angles.sin()
        # The minus sign of "rotate half" lies in the table.
        return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn ``x`` [batch, heads, time, head_dim] by the angles of ``RotaryEmbedding``.

    (a, b) becomes (a cos - b sin, b cos + a sin): swapping the halves is a roll by d/2, and the
    minus sign lies in the table.
    """
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)
