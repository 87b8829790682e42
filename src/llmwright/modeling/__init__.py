"""Models as files and as modules: where they come from, the decoder, reading and writing it.

Finding files (``resolve``) is cheap; everything that needs PyTorch is imported when first used.
"""

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports
from llmwright.modeling.sources import ModelFiles, fingerprint, resolve

if TYPE_CHECKING:
    from llmwright.modeling.adapter import Adapter, merge_adapter, read_adapter
    from llmwright.modeling.cache import KVCache
    from llmwright.modeling.checkpoint import save_checkpoint
    from llmwright.modeling.config import ModelConfig
    from llmwright.modeling.decoder import (
        Attention,
        Decoder,
        DecoderLayer,
        RMSNorm,
        causal_attention,
        random_decoder,
    )
    from llmwright.modeling.extend import (
        SCALING_METHODS,
        extend_context,
        scaling_by_name,
        trained_length,
    )
    from llmwright.modeling.gguf_writer import GGUFType, save_gguf
    from llmwright.modeling.memory import (
        kv_bytes_per_token,
        kv_bytes_without_groups,
        tokens_that_fit,
        weight_bytes,
    )
    from llmwright.modeling.model import Model, choose_dtype, load_model
    from llmwright.modeling.packed_writer import PackedFormat, save_quantized
    from llmwright.modeling.quantized import (
        QuantizedEmbedding,
        QuantizedLinear,
        QuantizedWeight,
        quantized_weights,
        replace_linears,
    )
    from llmwright.modeling.rope_scaling import (
        DynamicScaling,
        LinearScaling,
        Llama3Scaling,
        LongRopeScaling,
        NTKScaling,
        RopeScaling,
        YarnScaling,
    )
    from llmwright.modeling.run_state import Curve, load_run, save_run
    from llmwright.modeling.wheels import cached_models

_HOMES = {
    "Adapter": "adapter",
    "Attention": "decoder",
    "cached_models": "wheels",
    "causal_attention": "decoder",
    "choose_dtype": "model",
    "Decoder": "decoder",
    "DecoderLayer": "decoder",
    "DynamicScaling": "rope_scaling",
    "extend_context": "extend",
    "GGUFType": "gguf_writer",
    "kv_bytes_per_token": "memory",
    "kv_bytes_without_groups": "memory",
    "KVCache": "cache",
    "LinearScaling": "rope_scaling",
    "Llama3Scaling": "rope_scaling",
    "load_model": "model",
    "LongRopeScaling": "rope_scaling",
    "merge_adapter": "adapter",
    "Model": "model",
    "ModelConfig": "config",
    "NTKScaling": "rope_scaling",
    "PackedFormat": "packed_writer",
    "quantized_weights": "quantized",
    "QuantizedEmbedding": "quantized",
    "QuantizedLinear": "quantized",
    "QuantizedWeight": "quantized",
    "random_decoder": "decoder",
    "read_adapter": "adapter",
    "replace_linears": "quantized",
    "RMSNorm": "decoder",
    "RopeScaling": "rope_scaling",
    "save_checkpoint": "checkpoint",
    "Curve": "run_state",
    "load_run": "run_state",
    "save_run": "run_state",
    "save_gguf": "gguf_writer",
    "save_quantized": "packed_writer",
    "SCALING_METHODS": "extend",
    "scaling_by_name": "extend",
    "tokens_that_fit": "memory",
    "trained_length": "extend",
    "weight_bytes": "memory",
    "YarnScaling": "rope_scaling",
}

__all__ = [
    "SCALING_METHODS",
    "Adapter",
    "Attention",
    "Curve",
    "Decoder",
    "DecoderLayer",
    "DynamicScaling",
    "GGUFType",
    "KVCache",
    "LinearScaling",
    "Llama3Scaling",
    "LongRopeScaling",
    "Model",
    "ModelConfig",
    "ModelFiles",
    "NTKScaling",
    "PackedFormat",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedWeight",
    "RMSNorm",
    "RopeScaling",
    "YarnScaling",
    "cached_models",
    "causal_attention",
    "choose_dtype",
    "extend_context",
    "fingerprint",
    "kv_bytes_per_token",
    "kv_bytes_without_groups",
    "load_model",
    "load_run",
    "merge_adapter",
    "quantized_weights",
    "random_decoder",
    "read_adapter",
    "replace_linears",
    "resolve",
    "save_checkpoint",
    "save_gguf",
    "save_quantized",
    "save_run",
    "scaling_by_name",
    "tokens_that_fit",
    "trained_length",
    "weight_bytes",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
