"""Keys and values in 8 bits: each token's vector in each head with a scale of its own.

    s = max|k| / 127,    k' = s * round(k / s)

A cached token then takes ``2 * layers * kv_heads * (head_dim + 2)`` bytes with half-precision
scales: a little over half of what bfloat16 takes. Keys are rounded after rotation, as a cache
holds them. (Per token: LMDeploy and vLLM do so; Hooper et al., 2024, arXiv 2401.18079, study
where finer is needed.) This is the arithmetic, by which its cost in perplexity is measured.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmwright.modeling import Attention, causal_attention


def quantize_kv(x: Tensor) -> tuple[Tensor, Tensor]:
    """``x`` [..., head_dim] -> codes int8 [..., head_dim] and scales float16 [..., 1]."""
    values = x.float()
    scales = (values.abs().amax(-1, keepdim=True) / 127).half()
    steps = scales.float()
    codes = torch.where(steps > 0, values / steps, 0.0).round().clamp(-127, 127)
    return codes.to(torch.int8), scales


def dequantize_kv(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """What ``quantize_kv`` kept, in ``dtype``."""
    return (codes.float() * scales.float()).to(dtype)


class Int8KV:
    """An ``Attention`` that sees keys and values as an 8-bit cache would give them back."""

    def __init__(self, inner: Attention = causal_attention) -> None:
        self.inner = inner

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = (dequantize_kv(*quantize_kv(x), x.dtype) for x in (k, v))
        return self.inner(layer, q, k, v)
