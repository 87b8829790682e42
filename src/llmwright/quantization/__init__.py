"""Weights in few bits: choosing the codes, and measuring what that costs.

The files that others read, ``modeling`` writes: ``save_quantized``, ``save_gguf``.
"""

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.quantization.awq import quantize_awq
    from llmwright.quantization.calibration import (
        draw_blocks,
        held_out_pieces,
        read_token_lists,
    )
    from llmwright.quantization.compare import Comparison, Target, compare_models
    from llmwright.quantization.figures import draw_comparison
    from llmwright.quantization.gptq import ActOrder, quantize_gptq, round_by_gptq
    from llmwright.quantization.kv import Int8KV, dequantize_kv, quantize_kv
    from llmwright.quantization.measure import (
        Measurement,
        Reference,
        decode_speed,
        measure_model,
        recommend,
        reference,
        stored_size,
    )
    from llmwright.quantization.methods import CALIBRATED, Method, QuantizationSettings, quantize
    from llmwright.quantization.nf4 import nf4_levels, round_to_nf4
    from llmwright.quantization.pruning import magnitude_mask, prune, two_of_four_mask
    from llmwright.quantization.rtn import Scheme, round_to_nearest
    from llmwright.quantization.smoothquant import quantize_smoothquant

_HOMES = {
    "ActOrder": "gptq",
    "CALIBRATED": "methods",
    "Comparison": "compare",
    "Int8KV": "kv",
    "Measurement": "measure",
    "Method": "methods",
    "QuantizationSettings": "methods",
    "Reference": "measure",
    "Scheme": "rtn",
    "Target": "compare",
    "compare_models": "compare",
    "decode_speed": "measure",
    "dequantize_kv": "kv",
    "draw_blocks": "calibration",
    "draw_comparison": "figures",
    "held_out_pieces": "calibration",
    "magnitude_mask": "pruning",
    "measure_model": "measure",
    "nf4_levels": "nf4",
    "prune": "pruning",
    "quantize": "methods",
    "quantize_awq": "awq",
    "quantize_gptq": "gptq",
    "quantize_kv": "kv",
    "quantize_smoothquant": "smoothquant",
    "read_token_lists": "calibration",
    "recommend": "measure",
    "reference": "measure",
    "round_by_gptq": "gptq",
    "round_to_nearest": "rtn",
    "round_to_nf4": "nf4",
    "stored_size": "measure",
    "two_of_four_mask": "pruning",
}

__all__ = [
    "CALIBRATED",
    "ActOrder",
    "Comparison",
    "Int8KV",
    "Measurement",
    "Method",
    "QuantizationSettings",
    "Reference",
    "Scheme",
    "Target",
    "compare_models",
    "decode_speed",
    "dequantize_kv",
    "draw_blocks",
    "draw_comparison",
    "held_out_pieces",
    "magnitude_mask",
    "measure_model",
    "nf4_levels",
    "prune",
    "quantize",
    "quantize_awq",
    "quantize_gptq",
    "quantize_kv",
    "quantize_smoothquant",
    "read_token_lists",
    "recommend",
    "reference",
    "round_by_gptq",
    "round_to_nearest",
    "round_to_nf4",
    "stored_size",
    "two_of_four_mask",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
