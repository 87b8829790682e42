"""Adapters merged: a LoRA folder of PEFT added into the weights it was trained beside.

    W' = W + s B A,   s = alpha / r,  or alpha / sqrt(r) for rank-stabilised LoRA

with A [r, in] and B [out, r] (Hu et al., 2021, arXiv 2106.09685; rsLoRA: Kalajdzievski, 2023,
arXiv 2312.03732). The sum is taken in float32 and rounded to the model's dtype once. A merged
model runs at the base model's speed; several adapters over one base want them unmerged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from llmwright.core import InputError, ModelSourceError, read_json
from llmwright.modeling.decoder import Decoder
from llmwright.modeling.quantized import QuantizedLinear

_KEY = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight")
# Settings of PEFT that change what the weights mean, and the values this file handles.
_PLAIN = {"use_dora": False, "fan_in_fan_out": False, "bias": "none", "lora_bias": False}


@dataclass(frozen=True, slots=True)
class Adapter:
    """LoRA factors by module name ("model.layers.0.self_attn.q_proj"): A [r, in] and s B [out, r],
    float32, the scale s already in the second. ``source`` is the folder it was read from."""

    factors: Mapping[str, tuple[Tensor, Tensor]]
    source: str


def read_adapter(folder: Path | str, decoder: Decoder) -> Adapter:
    """Read a LoRA adapter that fits ``decoder``.

    ``folder`` holds adapter_config.json and adapter_model.safetensors, as PEFT writes them.
    Raises ``ModelSourceError`` where the folder is no LoRA adapter and ``InputError`` where it
    was trained for another base model.
    """
    folder = Path(folder)
    config = _read_config(folder)
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    for name, (a, b) in _read_pairs(folder).items():
        layer = _target(decoder, name, folder)
        shape = (layer.out_features, layer.in_features)
        if (b.shape[0], a.shape[1]) != shape or a.shape[0] != b.shape[1]:
            raise InputError(
                f"the adapter for {name} is for weights of [{b.shape[0]}, {a.shape[1]}], and the "
                f"model's are {list(shape)}",
                where=str(folder),
                fix=f"use its own base model, {config.get('base_model_name_or_path')}",
            )
        factors[name] = (a.float(), b.float() * _scale(config, name, a.shape[0]))
    return Adapter(factors, str(folder))


def merge_adapter(decoder: Decoder, folder: Path | str) -> None:
    """Add a LoRA adapter into ``decoder``'s weights, in place, or change nothing.

    Raises like ``read_adapter``, and where a layer is quantized: the sum has no few-bit form.
    """
    adapter = read_adapter(folder, decoder)
    for name in adapter.factors:
        if isinstance(decoder.get_submodule(name), QuantizedLinear):
            raise InputError(
                f"{name} is quantized, and an adapter cannot be added into it",
                where=str(folder),
                fix="serve the adapter beside the quantized model, or merge it into the model's "
                "whole weights and quantize the sum",
            )
    with torch.no_grad():
        for name, (a, b) in adapter.factors.items():
            weight = decoder.get_parameter(f"{name}.weight")
            weight.copy_(weight.float() + (b @ a).to(weight.device))


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "adapter_config.json"
    if not file.is_file():
        raise ModelSourceError(
            "there is no adapter_config.json",
            where=str(folder),
            fix="give the folder of an adapter",
        )
    config = read_json(file)
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise ModelSourceError(
            f"an adapter of the kind {kind!r} cannot be merged", where=str(file), fix="use LoRA"
        )
    for setting, plain in _PLAIN.items():
        if config.get(setting, plain) != plain:
            raise ModelSourceError(
                f"adapters with {setting}={config[setting]!r} cannot be merged",
                where=str(file),
                fix=f"train with {setting}={plain!r}",
            )
    if config.get("modules_to_save"):
        raise ModelSourceError(
            "the adapter replaces whole modules as well", where=str(file), fix="train LoRA alone"
        )
    return dict(config)


def _read_pairs(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """The factors A and B by the name of the module they belong to."""
    file = folder / "adapter_model.safetensors"
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelSourceError(
            f"the adapter's weights cannot be read ({error})", where=str(file), fix="save it again"
        ) from error
    factors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise ModelSourceError(
                f"{key!r} is no factor of LoRA", where=str(file), fix="use a LoRA adapter"
            )
        factors.setdefault(match[1], {})[match[2]] = tensor
    for name, found in factors.items():
        if set(found) != {"A", "B"}:
            raise ModelSourceError(
                f"{name} has only one of its two factors", where=str(file), fix="save it again"
            )
    return {name: (found["A"], found["B"]) for name, found in sorted(factors.items())}


def _target(decoder: Decoder, name: str, folder: Path) -> nn.Linear | QuantizedLinear:
    module = dict(decoder.named_modules()).get(name)
    if not isinstance(module, nn.Linear | QuantizedLinear):
        raise InputError(
            f"the adapter changes {name}, and the model has no such linear layer",
            where=str(folder),
            fix="use the base model the adapter was trained on",
        )
    if name == "lm_head" and decoder.config.tie_word_embeddings:
        raise InputError(
            "the adapter changes lm_head, which this model shares with its embeddings",
            where=str(folder),
            fix="train the adapter without lm_head",
        )
    return module


def _scale(config: dict[str, Any], name: str, rank: int) -> float:
    """Alpha over r, where a pattern may give some modules an alpha of their own."""
    alpha = float(config.get("lora_alpha", rank))
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            alpha = float(value)
            break
    return alpha / sqrt(rank) if config.get("use_rslora") else alpha / rank
