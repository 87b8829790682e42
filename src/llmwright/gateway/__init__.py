"""The OpenAI-compatible server: `create_app` makes it of models, `serve` runs it.

Names are fetched when first used, so that the command line can offer ``serve`` without paying
for a web server in every other command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.gateway.app import create_app
    from llmwright.gateway.serving import bind, serve

_HOMES = {"bind": "serving", "create_app": "app", "serve": "serving"}

__all__ = ["bind", "create_app", "serve"]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
