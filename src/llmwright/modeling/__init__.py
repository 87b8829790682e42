"""Models as files and as modules: where they come from, the decoder, reading and writing it.

Finding files (``resolve``) is cheap; everything that needs PyTorch is imported when first used.
"""

from importlib import import_module
from typing import Any

from llmwright.modeling.sources import ModelFiles, resolve

_LAZY: dict[str, str] = {}

__all__ = ["ModelFiles", "resolve"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"llmwright.modeling.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
