"""LoRA adapters beside the weights: several in one batch, none merged.

    y = W x + s B (A x)        for the rows of the sequences that have the adapter

with A [r, in] and s B [out, r] (Hu et al., 2021, arXiv 2106.09685), added in float32. A row costs
2 r (in + out) operations a module more.
"""

from __future__ import annotations

import ctypes

from torch import Tensor
from torch.nn import functional as F

from llmwright.core import ConfigurationError
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
    """Raises ``ConfigurationError`` where the adapter changes what is no linear layer here."""
    q = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    columns = {
        "self_attn.q_proj": 0, "self_attn.k_proj": q, "self_attn.v_proj": q + kv,
        "self_attn.o_proj": 0, "mlp.gate_proj": 0, "mlp.up_proj": config.intermediate_size,
        "mlp.down_proj": 0,
    }  # fmt: skip
    names = [
        f"model.layers.{layer}.{name}"
        for layer in range(config.num_hidden_layers)
        for name in columns
    ]
    names.append("lm_head")
    pairs = (LoraC * len(names))()
    tensors: list[Tensor] = []
    if unknown := [name for name in adapter.factors if name not in names]:
        raise ConfigurationError(
            f"the adapter changes {unknown[0]}, which the native runner cannot",
            where=adapter.source,
            fix="train it on the linear layers, or merge it",
        )
    places = [*columns.values()] * config.num_hidden_layers + [0]
    for pair, name, column in zip(pairs, names, places, strict=True):
        if name in adapter.factors:
            a, b = adapter.factors[name]  # [r, in], [out, r]
            shape = _shape(name, config)
            if (b.shape[0], a.shape[1]) != shape or a.shape[0] != b.shape[1]:
                raise ConfigurationError(
                    f"the adapter for {name} is for weights of [{b.shape[0]}, {a.shape[1]}], and "
                    f"the model's are {list(shape)}",
                    where=adapter.source,
                    fix="use its own base model",
                )
            a = F.pad(a.float(), (0, -a.shape[1] % 16)).contiguous()
            b = b.float().t().contiguous()
            tensors += [a, b]
            pair.rank, pair.n, pair.column, pair.stride = len(a), b.shape[1], column, a.shape[1]
            pair.a, pair.b = a.data_ptr(), b.data_ptr()
    return PackedAdapter(pairs, tensors)


def _shape(name: str, config: ModelConfig) -> tuple[int, int]:
    """[out, in] of a linear layer by its name."""
    q = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    hidden, inner = config.hidden_size, config.intermediate_size
    return {
        "q_proj": (q, hidden), "k_proj": (kv, hidden), "v_proj": (kv, hidden),
        "o_proj": (hidden, q), "gate_proj": (inner, hidden), "up_proj": (inner, hidden),
        "down_proj": (hidden, inner), "lm_head": (config.vocab_size, hidden),
    }[name.rpartition(".")[2]]  # fmt: skip
