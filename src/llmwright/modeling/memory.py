"""The bytes of weights and of cached keys and values, by arithmetic.

    a token:  2 * layers * kv_heads * head_dim * bytes a value      (2: keys and values)

The formula that is often quoted, ``2 * layers * hidden * bytes``, takes every query head to have
keys of its own. Grouped-query attention (Ainslie et al., 2023, arXiv 2305.13245) shares them:
Llama-2-7B in 16 bits needs 524,288 bytes a token by both, Llama-3-8B 131,072 where the short
formula says 524,288. A cache in int8 keeps, beside one byte a value, one float32 scale for each
head's key and one for its value: 1 + 4 / head_dim bytes a value.
"""

from __future__ import annotations

from llmwright.core import ConfigurationError
from llmwright.modeling.config import ModelConfig
from llmwright.modeling.decoder import Decoder
from llmwright.modeling.quantized import quantized_weights

_SCALE_BYTES = 4
_VALUE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}


def kv_bytes_per_token(config: ModelConfig, dtype: str) -> int:
    """Bytes that one token takes in a cache of ``dtype``: float32, float16, bfloat16 or int8."""
    vectors = 2 * config.num_hidden_layers * config.num_key_value_heads
    scale = _SCALE_BYTES if dtype == "int8" else 0
    return vectors * (config.head_dim * _value_bytes(dtype) + scale)


def kv_bytes_without_groups(config: ModelConfig, dtype: str) -> int:
    """What the short formula, 2 x layers x hidden, gives; to be compared with, not to plan by."""
    return 2 * config.num_hidden_layers * config.hidden_size * _value_bytes(dtype)


def tokens_that_fit(config: ModelConfig, dtype: str, *, memory: int, weights: int) -> int:
    """Cached tokens, over all sequences, for which ``memory`` bytes are enough beside the
    weights; 0 where not even these fit."""
    return max(0, memory - weights) // kv_bytes_per_token(config, dtype)


def weight_bytes(decoder: Decoder) -> int:
    """Bytes of the tensors that ``decoder`` holds, shared ones counted once."""
    tensors = list(decoder.state_dict(keep_vars=True).values())
    for weight in quantized_weights(decoder).values():
        tensors += weight.tensors.values()
    return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in tensors}.values())


def _value_bytes(dtype: str) -> int:
    if dtype not in _VALUE_BYTES:
        raise ConfigurationError(
            f"a cache cannot be of {dtype!r}",
            where="dtype",
            fix=f"use {', '.join(_VALUE_BYTES)}",
        )
    return _VALUE_BYTES[dtype]
