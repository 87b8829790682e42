"""Which runner is made, with what cache, and what is refused before any memory is taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from llmwright.core import CapacityError, ConfigurationError, MissingDependencyError
from llmwright.inference.native import NativeRunner, native_available
from llmwright.inference.runners import TorchRunner, make_runner
from llmwright.modeling import random_decoder

ROOM = {"cache_tokens": 100, "max_sequences": 2, "token_budget": 16}


@pytest.mark.parametrize("kind", ["auto", "native"])
def test_compiled_kernels_wherever_they_can_be_had(tiny, kind):
    if reason := native_available().reason:
        pytest.skip(f"the compiled kernels cannot be used: {reason}")
    runner, memory = make_runner(tiny, kind, **ROOM)
    assert isinstance(runner, NativeRunner)
    assert (runner.blocks, runner.block_size, memory.cache_tokens) == (7, 16, 112)
    assert memory.packed > 0
    small, memory = make_runner(tiny, kind, kv_dtype="int8", block_size=32, **ROOM)
    assert (small.blocks, small.block_size) == (4, 32)
    assert small.bytes_per_block / 32 < runner.bytes_per_block / 16 / 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pytorch_keeps_its_cache_in_the_models_type(tiny, dtype):
    decoder = random_decoder(tiny.config).to(getattr(torch, dtype))
    model = replace(tiny, decoder=decoder)
    runner, memory = make_runner(model, "torch", **ROOM)
    assert isinstance(runner, TorchRunner)
    assert (runner.blocks, runner.block_size, memory.packed) == (7, 16, 0)
    assert runner._pages.dtype == decoder.dtype
    assert runner._pages.nbytes == memory.cache
    other, memory = make_runner(model, "torch", kv_dtype="float32", **ROOM)
    assert other._pages.dtype == torch.float32
    assert other._pages.nbytes == memory.cache


def test_without_kernels(tiny, monkeypatch):
    monkeypatch.setenv("LLMWRIGHT_NATIVE", "0")
    assert isinstance(make_runner(tiny, "auto", **ROOM)[0], TorchRunner)
    with pytest.raises(MissingDependencyError, match="cannot be used: it is switched off"):
        make_runner(tiny, "native", **ROOM)
    with pytest.raises(ConfigurationError, match="kv_dtype: a cache in int8 needs"):
        make_runner(tiny, "auto", kv_dtype="int8", **ROOM)


@pytest.mark.parametrize("kind", ["auto", "torch"])
def test_what_does_not_fit_is_refused_before_it_is_taken(tiny, kind):
    with pytest.raises(CapacityError, match=r"cache 1,099,511,627,776 tokens x .* are free"):
        make_runner(tiny, kind, **{**ROOM, "cache_tokens": 1 << 40})
