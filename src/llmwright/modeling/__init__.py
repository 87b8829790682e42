"""Models as files and as modules: where they come from, the decoder, reading and writing it.

Finding files (``resolve``) is cheap; everything that needs PyTorch is imported when first used.
"""

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports
from llmwright.modeling.sources import ModelFiles, resolve

if TYPE_CHECKING:
    from llmwright.modeling.adapter import Adapter, merge_adapter, read_adapter
    from llmwright.modeling.cache import KVCache
    from llmwright.modeling.checkpoint import save_checkpoint
    from llmwright.modeling.config import ModelConfig
    from llmwright.modeling.decoder import Attention, Decoder, causal_attention, random_decoder
    from llmwright.modeling.model import Model, load_model
    from llmwright.modeling.quantized import (
        QuantizedEmbedding,
        QuantizedLinear,
        QuantizedWeight,
        quantized_weights,
        replace_linears,
    )
    from llmwright.modeling.wheels import cached_models

_HOMES = {
    "Adapter": "adapter",
    "Attention": "decoder",
    "Decoder": "decoder",
    "KVCache": "cache",
    "Model": "model",
    "ModelConfig": "config",
    "cached_models": "wheels",
    "causal_attention": "decoder",
    "load_model": "model",
    "merge_adapter": "adapter",
    "QuantizedEmbedding": "quantized",
    "QuantizedLinear": "quantized",
    "QuantizedWeight": "quantized",
    "quantized_weights": "quantized",
    "random_decoder": "decoder",
    "read_adapter": "adapter",
    "replace_linears": "quantized",
    "save_checkpoint": "checkpoint",
}

__all__ = [
    "Adapter",
    "Attention",
    "Decoder",
    "KVCache",
    "Model",
    "ModelConfig",
    "ModelFiles",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedWeight",
    "cached_models",
    "causal_attention",
    "load_model",
    "merge_adapter",
    "quantized_weights",
    "random_decoder",
    "read_adapter",
    "replace_linears",
    "resolve",
    "save_checkpoint",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
