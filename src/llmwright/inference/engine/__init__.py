"""The engine: many requests, one paged cache, one forward pass a step.

Read in this order: ``blocks`` (who holds which page), ``request`` (what is asked for),
``scheduler`` (what the next pass computes), ``batching`` and ``runner`` (the pass as tensors),
``torch_runner`` (a model that computes it), ``core`` (the loop), ``engine`` (the thread and the
event loops around it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.inference.engine.blocks import BlockManager, Table
    from llmwright.inference.engine.core import EngineCore
    from llmwright.inference.engine.engine import Engine, EngineOptions
    from llmwright.inference.engine.memory import MemoryPlan
    from llmwright.inference.engine.request import Request, SoftPrompt, Token
    from llmwright.inference.engine.runner import Output, Runner, Step
    from llmwright.inference.engine.runners import RunnerKind, make_runner
    from llmwright.inference.engine.stats import Stats, Times
    from llmwright.inference.engine.torch_runner import TorchRunner

_HOMES = {
    "BlockManager": "blocks",
    "Engine": "engine",
    "EngineCore": "core",
    "EngineOptions": "engine",
    "MemoryPlan": "memory",
    "Output": "runner",
    "Request": "request",
    "Runner": "runner",
    "RunnerKind": "runners",
    "SoftPrompt": "request",
    "Stats": "stats",
    "Step": "runner",
    "Table": "blocks",
    "Times": "stats",
    "Token": "request",
    "TorchRunner": "torch_runner",
    "make_runner": "runners",
}

__all__ = [
    "BlockManager",
    "Engine",
    "EngineCore",
    "EngineOptions",
    "MemoryPlan",
    "Output",
    "Request",
    "Runner",
    "RunnerKind",
    "SoftPrompt",
    "Stats",
    "Step",
    "Table",
    "Times",
    "Token",
    "TorchRunner",
    "make_runner",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
