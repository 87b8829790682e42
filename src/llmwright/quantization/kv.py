"""Keys and values in 8 bits: each token's vector in each head with a scale of its own.

    s = max|k| / 127,    k' = s * round(k / s)

A cached token then takes ``2 * layers * kv_heads * (head_dim + 4)`` bytes, scales in float32 as the
engine keeps them: a little over half of what bfloat16 takes. Keys are rounded after rotation, as a
cache holds them. (Per token: LMDeploy and vLLM do so; Hooper et al., 2024, arXiv 2401.18079, study
where finer is needed.) This is the arithmetic, by which its cost in perplexity is measured.
"""

from __future__ import annotations

from torch import Tensor

from llmwright.modeling import Attention, causal_attention


def through_int8(x: Tensor) -> Tensor:
    """``x`` [..., head_dim] as an 8-bit cache gives it back, in its dtype."""
    values = x.float()
    steps = values.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127  # [..., 1]
    return ((values / steps).round() * steps).to(x.dtype)


class Int8KV:
    """An ``Attention`` that sees keys and values as an 8-bit cache would give them back."""

    def __init__(self, inner: Attention = causal_attention) -> None:
        self.inner = inner

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.inner(layer, q, through_int8(k), through_int8(v))
