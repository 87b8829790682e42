"""LoRA adapters beside the weights: several in one batch, none merged.

    y = W x + s B (A x)        for the rows of the sequences that have the adapter

with A [r, in] and s B [out, r] (Hu et al., 2021, arXiv 2106.09685), added in float32. A row costs
2 r (in + out) operations a module more.
"""

from __future__ import annotations

import ctypes

from torch import Tensor
from torch.nn import functional as F

from llmwright.inference.native.layout import LoraC
from llmwright.modeling import Adapter, ModelConfig


class PackedAdapter:
    """The factors as the kernels read them: seven pairs a layer, then lm_head's."""

    def __init__(self, pairs: ctypes.Array[LoraC], tensors: list[Tensor]) -> None:
        self._pairs, self._tensors = pairs, tensors

    @property
    def address(self) -> int:
        return ctypes.addressof(self._pairs)


def pack_adapter(adapter: Adapter, config: ModelConfig) -> PackedAdapter:
    """The factors of an adapter that fits the model, as ``read_adapter`` gives it."""
    q = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    columns = {
        "self_attn.q_proj": 0, "self_attn.k_proj": q, "self_attn.v_proj": q + kv,
        "self_attn.o_proj": 0, "mlp.gate_proj": 0, "mlp.up_proj": config.intermediate_size,
        "mlp.down_proj": 0,
    }  # fmt: skip
    places = {
        f"model.layers.{layer}.{name}": column
        for layer in range(config.num_hidden_layers)
        for name, column in columns.items()
    }
    places["lm_head"] = 0
    pairs = (LoraC * len(places))()
    tensors: list[Tensor] = []
    for pair, (name, column) in zip(pairs, places.items(), strict=True):
        if name in adapter.factors:
            a, b = adapter.factors[name]  # [r, in], [out, r]
            a = F.pad(a.float(), (0, -a.shape[1] % 16)).contiguous()
            b = b.float().t().contiguous()
            tensors += [a, b]
            pair.rank, pair.n, pair.column, pair.stride = len(a), b.shape[1], column, a.shape[1]
            pair.a, pair.b = a.data_ptr(), b.data_ptr()
    return PackedAdapter(pairs, tensors)
