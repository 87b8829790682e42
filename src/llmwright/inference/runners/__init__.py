"""Runners: a model and its paged cache, as one forward pass over blocks (``inference.runner``).

``make_runner`` takes the compiled kernels of ``native`` where there is a C compiler and PyTorch
elsewhere, and plans the memory before it is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.inference.runners.make import RunnerKind, make_runner
    from llmwright.inference.runners.memory import MemoryPlan
    from llmwright.inference.runners.torch_runner import TorchRunner

_HOMES = {
    "MemoryPlan": "memory",
    "RunnerKind": "make",
    "TorchRunner": "torch_runner",
    "make_runner": "make",
}

__all__ = ["MemoryPlan", "RunnerKind", "TorchRunner", "make_runner"]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
