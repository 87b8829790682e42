"""Which runner computes: compiled kernels on a CPU that has a C compiler, PyTorch elsewhere."""

from __future__ import annotations

from typing import Literal

import torch

from llmwright.core import ConfigurationError, MissingDependencyError
from llmwright.inference.engine.runner import Runner
from llmwright.inference.engine.torch_runner import TorchRunner
from llmwright.inference.native import NativeRunner, native_available
from llmwright.modeling import Model

KVDType = Literal["auto", "float32", "bfloat16", "int8"]
RunnerKind = Literal["auto", "native", "torch"]


def runs_native(model: Model, kind: RunnerKind) -> bool:
    """Whether ``make_runner`` will give the compiled kernels."""
    on_cpu = model.decoder.device.type == "cpu"
    return kind != "torch" and on_cpu and bool(native_available())


def make_runner(
    model: Model, blocks: int, block_size: int, kv_dtype: KVDType, kind: RunnerKind
) -> Runner:
    """A runner over ``model``; "auto" is the fast one wherever it can be had.

    Raises ``MissingDependencyError`` where "native" is asked for and cannot be built, and
    ``ConfigurationError`` for a cache in int8 without it.
    """
    decoder = model.decoder
    if runs_native(model, kind):
        return NativeRunner(decoder, blocks, block_size, kv_dtype)
    if kind == "native":
        reason = native_available().reason or "the model is on a GPU"
        raise MissingDependencyError(
            f"the compiled kernels cannot be used: {reason}", fix="install a C compiler"
        )
    if kv_dtype == "int8":
        raise ConfigurationError(
            "a cache in int8 needs the compiled kernels",
            where="kv_dtype",
            fix="use float32 or bfloat16",
        )
    dtype = None if kv_dtype == "auto" else getattr(torch, kv_dtype)
    return TorchRunner(decoder, blocks, block_size, dtype)
