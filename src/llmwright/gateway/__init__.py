"""The OpenAI-compatible server: `create_app` makes it of models, `serve` runs it.

Names are fetched when first used, so that the command line can offer ``serve`` without paying
for a web server in every other command.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmwright.gateway.app import create_app
    from llmwright.gateway.serving import bind, serve

_HOMES = {"bind": "serving", "create_app": "app", "serve": "serving"}

__all__ = ["bind", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
