"""Which runner computes: compiled kernels on a CPU that has a C compiler, PyTorch elsewhere."""

from __future__ import annotations

from typing import Literal

import torch

from llmwright.core import ConfigurationError, MissingDependencyError
from llmwright.inference.native import KVDType, NativeRunner, native_available
from llmwright.inference.runner import Runner
from llmwright.inference.runners.memory import MemoryPlan, plan_memory
from llmwright.inference.runners.torch_runner import TorchRunner
from llmwright.modeling import Model

RunnerKind = Literal["auto", "native", "torch"]


def make_runner(
    model: Model,
    kind: RunnerKind,
    *,
    cache_tokens: int | None,
    max_sequences: int,
    token_budget: int,
    block_size: int = 16,
    kv_dtype: KVDType = "auto",
) -> tuple[Runner, MemoryPlan]:
    """A runner over ``model`` and the memory it takes, which is checked before it is taken;
    "auto" is the fast one wherever it can be had, and the model's own type of cache.

    Raises ``CapacityError`` where the memory is not free, ``MissingDependencyError`` where
    "native" is asked for and cannot be built, and ``ConfigurationError`` for a cache in int8
    without it.
    """
    decoder = model.decoder
    native = kind != "torch" and decoder.device.type == "cpu" and bool(native_available())
    if kind == "native" and not native:
        reason = native_available().reason or "the model is on a GPU"
        raise MissingDependencyError(
            f"the compiled kernels cannot be used: {reason}", fix="install a C compiler"
        )
    if kv_dtype == "int8" and not native:
        raise ConfigurationError(
            "a cache in int8 needs the compiled kernels",
            where="kv_dtype",
            fix="use float32 or bfloat16",
        )
    memory = plan_memory(
        decoder,
        kv_dtype=str(decoder.dtype).removeprefix("torch.") if kv_dtype == "auto" else kv_dtype,
        cache_tokens=cache_tokens,
        block_size=block_size,
        max_sequences=max_sequences,
        token_budget=token_budget,
        native=native,
    )
    memory.check(model.source)
    blocks = memory.cache_tokens // block_size
    if native:
        return NativeRunner(decoder, blocks, block_size, kv_dtype), memory
    dtype = None if kv_dtype == "auto" else getattr(torch, kv_dtype)
    return TorchRunner(decoder, blocks, block_size, dtype), memory
