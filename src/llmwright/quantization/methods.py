"""All methods by name, with the settings that the command and a recipe give them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from llmwright.core import ConfigurationError
from llmwright.modeling import Decoder, replace_linears
from llmwright.quantization.awq import quantize_awq
from llmwright.quantization.gptq import ActOrder, quantize_gptq
from llmwright.quantization.nf4 import round_to_nf4
from llmwright.quantization.rtn import Scheme, round_to_nearest
from llmwright.quantization.smoothquant import quantize_smoothquant
from llmwright.quantization.walk import linear_layers

Method = Literal["rtn", "gptq", "awq", "nf4", "smoothquant"]
CALIBRATED: tuple[Method, ...] = ("gptq", "awq", "smoothquant")


@dataclass(frozen=True, slots=True)
class QuantizationSettings:
    """How to quantize. NF4 and SmoothQuant fix the scheme themselves. ``head_bits`` is for the
    embedding and the output matrix: 16 leaves them as they are, 4 or 8 round them to nearest,
    each row with the scheme's groups at 4 bits and with one scale at 8."""

    method: Method = "gptq"
    scheme: Scheme = field(default_factory=Scheme)
    act_order: ActOrder = "none"
    head_bits: int = 16

    def __post_init__(self) -> None:
        for name, known in (
            ("method", get_args(Method)),
            ("act_order", get_args(ActOrder)),
            ("head_bits", (4, 8, 16)),
        ):
            value = getattr(self, name)
            if value not in known:
                raise ConfigurationError(
                    f"{value!r} is not handled", where=name, fix=f"use {', '.join(map(str, known))}"
                )


@torch.no_grad()
def quantize(
    decoder: Decoder, settings: QuantizationSettings, token_ids: Tensor | None = None
) -> None:
    """Quantize the linear layers of ``decoder``, in place. ``token_ids`` [sequences, time] is
    calibration text, for the methods that look at data.

    Raises ``ConfigurationError`` where such a method is given none, and ``InputError`` where the
    layers are quantized already.
    """
    method, scheme = settings.method, settings.scheme
    layers = linear_layers(decoder)
    if method == "rtn":
        replace_linears(decoder, {n: round_to_nearest(m.weight, scheme) for n, m in layers.items()})
    elif method == "nf4":
        replace_linears(decoder, {n: round_to_nf4(m.weight) for n, m in layers.items()})
    elif token_ids is None:
        raise ConfigurationError(
            f"{method} looks at data and was given none",
            where="calibration",
            fix="give calibration text, or use rtn or nf4",
        )
    elif method == "gptq":
        quantize_gptq(decoder, token_ids, scheme, act_order=settings.act_order)
    elif method == "awq":
        quantize_awq(decoder, token_ids, scheme)
    else:
        quantize_smoothquant(decoder, token_ids)
    if settings.head_bits < 16:
        _quantize_head(decoder, settings)


def _quantize_head(decoder: Decoder, settings: QuantizationSettings) -> None:
    scheme = Scheme(8, 0, symmetric=True)
    if settings.head_bits == 4:
        scheme = replace(settings.scheme, bits=4)
    weights = {"lm_head": round_to_nearest(decoder.lm_head.weight, scheme)}
    if not decoder.config.tie_word_embeddings:
        embedding = decoder.model.embed_tokens.weight
        weights["model.embed_tokens"] = round_to_nearest(embedding, scheme)
    replace_linears(decoder, weights)
