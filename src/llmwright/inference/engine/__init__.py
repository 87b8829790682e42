"""The engine: many requests, one paged cache, one forward pass a step.

Read in this order: ``inference.blocks`` (who holds which block), ``request`` (what is asked for),
``scheduler`` (what the next pass computes), ``inference.runner`` and ``batching`` (the pass as
tensors), ``core`` (the loop), ``speculate`` (drafts in it), ``engine`` (the thread and the event
loops around it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.inference.engine.core import EngineCore
    from llmwright.inference.engine.engine import Engine, EngineOptions
    from llmwright.inference.engine.request import Request, SoftPrompt, Token
    from llmwright.inference.engine.stats import Stats, Times

_HOMES = {
    "Engine": "engine",
    "EngineCore": "core",
    "EngineOptions": "engine",
    "Request": "request",
    "SoftPrompt": "request",
    "Stats": "stats",
    "Times": "stats",
    "Token": "request",
}

__all__ = [
    "Engine",
    "EngineCore",
    "EngineOptions",
    "Request",
    "SoftPrompt",
    "Stats",
    "Times",
    "Token",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
