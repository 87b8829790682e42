"""The arithmetic of weights and caches, against tensors that are really held."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_llama import TINY

from llmwright.core import ConfigurationError
from llmwright.modeling import (
    KVCache,
    ModelConfig,
    QuantizedWeight,
    kv_bytes_per_token,
    kv_bytes_without_groups,
    random_decoder,
    replace_linears,
    tokens_that_fit,
    weight_bytes,
)

LLAMA_2_7B = ModelConfig(32_000, 4096, 11_008, 32, 32, 32, 128, tie_word_embeddings=False)
LLAMA_3_8B = ModelConfig(128_256, 4096, 14_336, 32, 32, 8, 128, tie_word_embeddings=False)


def test_known_models():
    # 2 x 32 layers x 32 heads x 128 x 2 bytes: 2 GiB at 4,096 tokens.
    assert kv_bytes_per_token(LLAMA_2_7B, "float16") == 524_288
    assert kv_bytes_per_token(LLAMA_2_7B, "float16") * 4096 == 2 << 30
    assert kv_bytes_without_groups(LLAMA_2_7B, "float16") == 524_288
    # Eight heads of keys for 32 of queries: a quarter of what the short formula says.
    assert kv_bytes_per_token(LLAMA_3_8B, "bfloat16") == 131_072
    assert kv_bytes_without_groups(LLAMA_3_8B, "bfloat16") == 524_288
    # One byte a value, and a float32 scale for each head's key and value.
    assert kv_bytes_per_token(LLAMA_3_8B, "int8") == 2 * 32 * 8 * (128 + 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cache_holds_what_was_said(dtype):
    cache = KVCache(TINY, dtype, capacity=100)
    said = kv_bytes_per_token(TINY, str(dtype).removeprefix("torch."))
    assert cache._buffer.nbytes == 100 * said


@given(st.integers(0, 1 << 34), st.integers(0, 1 << 34), st.sampled_from(["float32", "int8"]))
def test_what_fits_is_the_most_that_fits(memory, weights, dtype):
    tokens = tokens_that_fit(TINY, dtype, memory=memory, weights=weights)
    each = kv_bytes_per_token(TINY, dtype)
    if tokens:
        assert weights + tokens * each <= memory
    assert weights + (tokens + 1) * each > memory


@pytest.mark.parametrize("tied", [True, False])
def test_weights_that_are_shared_count_once(tied):
    config = replace(TINY, tie_word_embeddings=tied)
    decoder = random_decoder(config)
    assert weight_bytes(decoder) == 4 * config.parameters
    assert weight_bytes(decoder.bfloat16()) == 2 * config.parameters


def test_quantized_weights_count_what_they_hold():
    config = replace(TINY, num_hidden_layers=1)
    decoder = random_decoder(config)
    before = weight_bytes(decoder)
    rows, columns = decoder.model.layers[0].mlp.up_proj.weight.shape
    groups = columns // 16
    weight = QuantizedWeight(
        torch.zeros(rows, columns, dtype=torch.uint8),
        torch.ones(rows, groups),
        torch.zeros(rows, groups),
        bits=4,
        group_size=16,
    )
    replace_linears(decoder, {"model.layers.0.mlp.up_proj": weight})
    assert weight_bytes(decoder) == before - 4 * rows * columns + rows * (columns + 8 * groups)


def test_unknown_caches_are_refused():
    with pytest.raises(ConfigurationError, match="int3"):
        kv_bytes_per_token(TINY, "int3")
