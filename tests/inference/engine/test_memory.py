"""The plan is the arithmetic, and what does not fit is refused before it is taken."""

from __future__ import annotations

import pytest
import torch

from llmwright.core import CapacityError
from llmwright.inference import Engine
from llmwright.inference.engine.memory import available_bytes, plan_memory
from llmwright.inference.native import NativeRunner, native_available
from llmwright.modeling import load_model


def plan(tiny, **options):
    wanted = {
        "kv_dtype": "float32",
        "cache_tokens": 100,
        "block_size": 16,
        "max_sequences": 4,
        "token_budget": 64,
        "native": False,
    }
    return plan_memory(tiny.decoder, **{**wanted, **options})


def test_the_arithmetic(tiny):
    config = tiny.config
    made = plan(tiny)
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    assert made.bytes_per_token == per_token
    assert made.cache_tokens == 112  # whole blocks
    assert made.cache == 112 * per_token
    assert made.total == made.weights + made.cache + made.activations
    assert f"112 tokens x {per_token:,} bytes" in str(made)
    half = plan(tiny, kv_dtype="bfloat16")
    assert half.cache * 2 == made.cache


def test_the_default_holds_one_context_and_no_more_than_all_sequences(tiny):
    context = tiny.config.max_position_embeddings
    made = plan(tiny, cache_tokens=None)
    assert context <= made.cache_tokens <= 4 * context


def test_the_copy_for_the_kernels_is_counted(smollm2_path):
    if reason := native_available().reason:
        pytest.skip(f"the compiled kernels cannot be used: {reason}")
    for packed in (False, True):
        model = load_model(smollm2_path, "bfloat16", packed=packed)
        stated = plan(model, native=True).packed
        taken = NativeRunner(model.decoder, 1).weight_bytes
        assert taken <= stated <= 1.1 * taken


def test_what_does_not_fit_is_refused_with_the_arithmetic(tiny):
    with pytest.raises(CapacityError, match=r"weights .* cache .* tokens x .* bytes = .* are free"):
        Engine(tiny, cache_tokens=1 << 42)


def test_the_system_tells_what_is_free():
    free = available_bytes(torch.device("cpu"))
    assert free is None or 1 << 20 < free < 1 << 50
