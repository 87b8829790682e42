"""Rotary position embedding: a position is an angle by which pairs of dimensions are turned.

Dimension pair i of a head turns by ``position * theta^(-2i/d)``, so the product of a query at m
and a key at n depends on their contents and on m - n only. Hugging Face's layout is used, in
which the pair of dimension i is i + d/2 (llama.cpp's GGUF files pair 2i with 2i + 1; the
checkpoint reader puts their rows in order). Frequencies for longer contexts: ``rope_scaling``.

Su et al., 2021, arXiv 2104.09864. Costs one multiply-add pass over queries and keys and no weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmwright.modeling.rope_scaling import RopeScaling, plain_frequencies


class RotaryEmbedding(nn.Module):
    """Tables of cosines and sines, as long as the longest position asked for so far.

    Under a scaling that ``depends_on_length`` (dynamic NTK, LongRoPE) there is no table: each
    token's angles come from the length of its sequence. Keys are cached turned, so that length
    must be one and the same over a sequence's life: what it will reach at most, prompt and answer.
    Then cached keys never go stale, and a batch may mix sequences of any lengths.
    """

    def __init__(self, head_dim: int, theta: float, scaling: RopeScaling | None = None) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.theta = theta
        self.scaling = scaling
        # One attribute for both, so that threads which share the model see a whole pair.
        self._tables: tuple[Tensor, Tensor] | None = None

    @property
    def depends_on_length(self) -> bool:
        return self.scaling is not None and self.scaling.depends_on_length

    def frequencies(self, lengths: Tensor) -> Tensor:
        """Angle a position: [head_dim / 2], or [..., head_dim / 2] for ``lengths`` [...] under a
        scaling that depends on them; float32."""
        if self.scaling is None:
            return plain_frequencies(self.head_dim, self.theta, lengths.device)
        return self.scaling.frequencies(self.head_dim, self.theta, lengths)

    def forward(
        self, positions: Tensor, dtype: torch.dtype, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``positions`` [batch, time] -> cosines and signed sines [batch, 1, time, head_dim].

        ``lengths`` [batch, 1] or [batch, time] (anything that broadcasts to the positions) is the
        length that each token's sequence is planned to reach. By default it is the call's longest
        position + 1, as in transformers: right for one whole text, and for no cache.
        """
        longest = int(positions.max()) + 1 if positions.numel() else 0
        if self.depends_on_length:
            if lengths is None:
                lengths = torch.tensor(longest, device=positions.device)
            frequencies = self.frequencies(lengths)  # [..., head_dim / 2]
            cos, sin = self._turn(positions.unsqueeze(-1).float() * frequencies, dtype)
            return cos.unsqueeze(1), sin.unsqueeze(1)
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
        places = torch.arange(length, dtype=torch.float32, device=device)
        return self._turn(torch.outer(places, self.frequencies(places)), dtype)

    def _turn(self, angles: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """``angles`` [..., head_dim / 2], in float32: bfloat16 could not tell position 257 from
        258 -> cosines and signed sines [..., head_dim]."""
        cos, sin = angles.cos(), angles.sin()
        if self.scaling is not None:
            cos, sin = cos * self.scaling.amplitude, sin * self.scaling.amplitude
        # The minus sign of "rotate half" lies in the table.
        return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn ``x`` [batch, heads, time, head_dim] by the angles of ``RotaryEmbedding``.

    (a, b) becomes (a cos - b sin, b cos + a sin): swapping the halves is a roll by d/2, and the
    minus sign lies in the table.
    """
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)
