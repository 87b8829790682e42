"""Models as files and as modules: where they come from, the decoder, reading and writing it.

Finding files (``resolve``) is cheap; everything that needs PyTorch is imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llmwright.modeling.sources import ModelFiles, resolve

if TYPE_CHECKING:
    from llmwright.modeling.cache import KVCache
    from llmwright.modeling.config import ModelConfig
    from llmwright.modeling.decoder import Attention, Decoder, causal_attention, random_decoder

_LAZY = {
    "Attention": "decoder",
    "Decoder": "decoder",
    "KVCache": "cache",
    "ModelConfig": "config",
    "causal_attention": "decoder",
    "random_decoder": "decoder",
}

__all__ = [
    "Attention",
    "Decoder",
    "KVCache",
    "ModelConfig",
    "ModelFiles",
    "causal_attention",
    "random_decoder",
    "resolve",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"llmwright.modeling.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
