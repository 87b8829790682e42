"""Weights in few bits: choosing the codes, measuring what it costs, and files others read."""

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.quantization.gguf_writer import save_gguf

_HOMES = {
    "save_gguf": "gguf_writer",
}

__all__ = [
    "save_gguf",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
