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
    from llmwright.quantization.gptq import ActOrder, quantize_gptq
    from llmwright.quantization.kv import Int8KV
    from llmwright.quantization.measure import (
        Measurement,
        Reference,
        decode_speed,
        measure_model,
        reference,
    )
    from llmwright.quantization.methods import CALIBRATED, Method, QuantizationSettings, quantize
    from llmwright.quantization.nf4 import round_to_nf4
    from llmwright.quantization.pruning import prune
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
    "draw_blocks": "calibration",
    "draw_comparison": "figures",
    "held_out_pieces": "calibration",
    "measure_model": "measure",
    "prune": "pruning",
    "quantize": "methods",
    "quantize_awq": "awq",
    "quantize_gptq": "gptq",
    "quantize_smoothquant": "smoothquant",
    "read_token_lists": "calibration",
    "reference": "measure",
    "round_to_nearest": "rtn",
    "round_to_nf4": "nf4",
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
    "draw_blocks",
    "draw_comparison",
    "held_out_pieces",
    "measure_model",
    "prune",
    "quantize",
    "quantize_awq",
    "quantize_gptq",
    "quantize_smoothquant",
    "read_token_lists",
    "reference",
    "round_to_nearest",
    "round_to_nf4",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
