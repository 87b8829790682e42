"""The plan is the arithmetic, and what does not fit is refused before it is taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from llmwright.core import CapacityError
from llmwright.inference import Engine
from llmwright.inference.engine.stats import Times
from llmwright.inference.native import NativeRunner, native_available
from llmwright.inference.runners import memory
from llmwright.inference.runners.memory import available_bytes, plan_memory
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


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   7 kB\n"}, 7 * 1024),
        ({"proc/meminfo": "MemAvailable: 7 kB", "memory.max": "max\n"}, 7 * 1024),
        (
            {"proc/meminfo": "MemAvailable: 7 kB", "memory.max": "5000\n", "memory.current": "900"},
            4100,
        ),
        (
            {"proc/meminfo": "MemAvailable: 7 kB", "memory.max": "9000", "memory.current": "900"},
            7 * 1024,
        ),
        ({"proc/meminfo": "MemAvailable: 7 kB", "memory.max": "5000"}, 7 * 1024),
        ({"proc/meminfo": "nothing of the kind"}, None),
        ({}, None),
    ],
)
def test_what_is_free_by_the_system_or_its_limit_for_us(monkeypatch, tmp_path, files, free):
    for name, text in files.items():
        place = tmp_path / (name if "/" in name else f"sys/fs/cgroup/{name}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    monkeypatch.setattr(memory, "Path", lambda path: tmp_path / path.lstrip("/"))
    assert available_bytes(torch.device("cpu")) == free


def test_what_a_pass_needs_is_counted_from_above(tiny):
    config = tiny.config  # 64 * 2 of the feed-forward layer, 32 * 4 of the stream
    assert plan(tiny).activations == 4 * (64 * 2 * 128 + 2 * 4 * config.vocab_size)
    made = plan(tiny, cache_tokens=None, max_sequences=1 << 20)
    assert made.cache_tokens == (1 << 30) // made.bytes_per_token  # 1 GiB at the most
    assert plan(tiny, cache_tokens=None, max_sequences=2).cache_tokens == 2 * 4096
    assert plan(tiny, cache_tokens=1).cache_tokens == plan(tiny, cache_tokens=16).cache_tokens == 16


def test_what_is_free_to_the_byte_is_enough(tiny):
    made = plan(tiny, native=True)
    needed = made.total - made.weights
    replace(made, available=needed).check("here")
    replace(made, available=None).check("here")
    with pytest.raises(
        CapacityError, match=r"here: .*packed for the kernels 0 MiB.*0 MiB are free"
    ):
        replace(made, available=needed - 1).check("here")


def test_times_are_medians_and_the_slowest_twentieth():
    assert Times.over([]) == Times.over([1.0]) == Times(None, None)
    assert Times.over([1.0, 3.0]) == Times(2.0, pytest.approx(2.9))
    assert Times.over(range(101)) == Times(50, 95)
