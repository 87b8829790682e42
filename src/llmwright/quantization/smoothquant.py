"""SmoothQuant: 8-bit weights and 8-bit inputs, once a factor has evened the inputs' channels.

    s_j = max|x_j|^alpha / max_o |w_oj|^(1 - alpha),      (x / s) (W diag(s)) = x W

A few channels of a large model's activations are a hundred times the others and would leave
them almost no levels. A factor per channel moves part of that into the weights, which have room.
It goes into the norm before, so only the layers that read a norm are smoothed: queries, keys and
values, gate and up. Then weights are rounded to 8 bits by output channel, symmetric, and inputs
as they come, each token by its own largest value (``QuantizedLinear`` with
``eight_bit_inputs``): the product is one of whole numbers.

Xiao, Lin, Seznec, Wu, Demouth, Han, 2022, arXiv 2211.10438. Costs two forward passes over the
calibration text.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmwright.modeling import Decoder, replace_linears
from llmwright.quantization.rtn import Scheme, round_to_nearest
from llmwright.quantization.walk import fold, walk

_W8 = Scheme(bits=8, group_size=0, symmetric=True)


@torch.no_grad()
def quantize_smoothquant(decoder: Decoder, token_ids: Tensor, *, alpha: float = 0.5) -> None:
    """Let all linear layers but lm_head multiply 8-bit weights with 8-bit inputs, in place, on
    ``token_ids`` [sequences, time]. ``alpha`` is the share of the difficulty that weights take."""
    weights = {}
    for group in walk(decoder, token_ids, "SmoothQuant"):
        if group.before is not None and not isinstance(group.before, nn.Linear):
            fold(group, smoothing_factors(group.stacked, group.inputs, alpha))
        for name, linear in zip(group.names, group.linears, strict=True):
            weights[name] = round_to_nearest(linear.weight, _W8)
    replace_linears(decoder, weights, eight_bit_inputs=True)


def smoothing_factors(weight: Tensor, inputs: Tensor, alpha: float) -> Tensor:
    """The factor s [in] for ``weight`` [out, in] and its ``inputs`` [..., in]."""
    largest = inputs.flatten(0, -2).abs().amax(0).clamp_min(1e-5)  # [in]
    heaviest = weight.abs().amax(0).clamp_min(1e-5)
    return (largest**alpha / heaviest ** (1 - alpha)).clamp_min(1e-5)
