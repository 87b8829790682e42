"""A quantized model as a folder that transformers, vLLM and SGLang load.

The layouts stand in ``packed_reader``. What each can hold:

    gptq                 2, 3, 4 or 8 bits, any group size, act-order; one scheme for all layers
    awq                  4 bits, groups that divide the rows evenly; one scheme for all layers
    compressed-tensors   1 to 8 bits, a scheme for each layer, layers left whole

Zero points must be codes themselves (GGUF's types with a minimum are not, nor is NF4). GPTQ's
first version stores a zero point less one, so that 0 has no form in it: such weights are written as
version 2 and say so. Codes are written as they are, scales as float16, which those that
``quantization`` chooses are already. Embedding and output matrix are written whole: no loader takes
them packed. Inputs of 8 bits (SmoothQuant) are how a layer computes and not what it holds: the
folder has its weights, to be multiplied with whole inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from llmwright.core import ConfigurationError, InputError
from llmwright.modeling.bits import pack_bits
from llmwright.modeling.checkpoint import write_folder
from llmwright.modeling.model import Model
from llmwright.modeling.packed_reader import AWQ_COLUMNS
from llmwright.modeling.quantized import QuantizedWeight, quantized_weights

PackedFormat = Literal["gptq", "awq", "compressed-tensors"]
Weights = Mapping[str, QuantizedWeight]

_WHOLE = ("model.embed_tokens", "lm_head")


def save_quantized(
    model: Model, folder: Path | str, format: PackedFormat = "compressed-tensors"
) -> None:
    """Write the folder of a model with quantized layers; it appears whole.

    Raises ``ConfigurationError`` for a format that is not written here, and ``InputError`` where
    it cannot hold the model's weights as they are.
    """
    if format not in _FORMATS:
        raise ConfigurationError(
            f"{format!r} is no format that is written here",
            where="format",
            fix=f"use {', '.join(_FORMATS)}, or save_gguf",
        )
    cpu = torch.device("cpu")
    found = {name: weight.to(cpu) for name, weight in quantized_weights(model.decoder).items()}
    layers = {name: weight for name, weight in found.items() if name not in _WHOLE}
    if not layers:
        raise InputError(
            "no layer of the model is quantized",
            where=model.source,
            fix="quantize it first, or write it with save_checkpoint",
        )
    for name, weight in layers.items():
        _check(name, weight, format)
    describe, write = _FORMATS[format]
    settings = describe(model, layers)
    tensors = {name: weight.detach() for name, weight in model.decoder.named_parameters()}
    for name in _WHOLE[: 1 if model.config.tie_word_embeddings else 2]:
        if name in found:
            tensors[f"{name}.weight"] = found[name].dequantize(model.decoder.dtype)
    for name, weight in layers.items():
        bias = getattr(model.decoder.get_submodule(name), "bias", None)
        if bias is not None:
            tensors[f"{name}.bias"] = bias.detach()
        for part, tensor in write(weight, settings):
            tensors[f"{name}.{part}"] = tensor
    write_folder(model, Path(folder), tensors, {"quantization_config": settings})


def _check(name: str, weight: QuantizedWeight, format: str) -> None:
    """Refuse what the format has no words for."""
    columns, zeros = weight.shape[1], weight.zeros
    words = 32 // weight.bits if 32 % weight.bits == 0 else 32
    even = columns % _size(weight) == 0
    what = ""
    if weight.codebook is not None:
        what = "has codes that name values (NF4)"
    elif weight.minima is not None or bool((zeros != zeros.round()).any()):
        what = "has zero points that are no whole numbers (GGUF's minima)"
    elif bool(((zeros < 0) | (zeros >= 2**weight.bits)).any()):
        what = "has zero points that are no codes"
    elif not bool((weight.scales.abs() <= torch.finfo(torch.float16).max).all()):
        what = "has scales too large for 16 bits"
    elif format == "gptq" and weight.bits not in (2, 3, 4, 8):
        what = f"has {weight.bits} bits, and the format 2, 3, 4 or 8"
    elif format == "awq" and weight.bits != 4:
        what = f"has {weight.bits} bits, and the format 4"
    elif format != "gptq" and weight.group is not None:
        what = "has its columns in another order (act-order)"
    elif format != "gptq" and not even:
        what = f"has {columns} columns, no whole number of groups of {_size(weight)}"
    elif format != "compressed-tensors" and weight.shape[0] % words:
        what = f"has {weight.shape[0]} rows, and the format packs {words} together"
    elif format == "gptq" and columns % words:
        what = f"has {columns} columns, and the format packs {words} together"
    if what:
        others = {
            "gptq": "compressed-tensors, or save_gguf",
            "awq": "gptq or compressed-tensors, or save_gguf",
            "compressed-tensors": "gptq, or save_gguf",
        }
        raise InputError(
            f"{name} {what}, which {format} cannot hold",
            where="save_quantized",
            fix=f"use {others[format]}, or quantize otherwise",
        )


def _size(weight: QuantizedWeight) -> int:
    return weight.shape[1] if weight.scales.shape[1] == 1 else weight.group_size


def _symmetric(weight: QuantizedWeight) -> bool:
    return bool((weight.zeros == 2 ** (weight.bits - 1)).all())


def _scheme(weight: QuantizedWeight) -> tuple[int, int, bool]:
    """Bits, columns of a group (-1: the whole row), and whether zero is in the middle."""
    return weight.bits, -1 if weight.scales.shape[1] == 1 else weight.group_size, _symmetric(weight)


def _one_scheme(model: Model, layers: Weights, format: str) -> dict[str, Any]:
    """Settings of the formats that know one scheme for all layers."""
    bits = {weight.bits for weight in layers.values()}
    size = max((w.group_size for w in layers.values() if w.scales.shape[1] > 1), default=-1)
    alike = len(bits) == 1 and all(_in_groups_of(size, w, format) for w in layers.values())
    whole = [
        name
        for name, module in model.decoder.named_modules()
        if isinstance(module, torch.nn.Linear) and name not in _WHOLE
    ]
    if whole or not alike:
        what = f"{whole[0]} is not quantized" if whole else "layers differ in bits or group size"
        raise InputError(
            f"{what}, and {format} has one scheme for all",
            where="save_quantized",
            fix="use compressed-tensors, or quantize every layer alike",
        )
    return {"quant_method": format, "bits": bits.pop(), "group_size": size}


def _in_groups_of(size: int, weight: QuantizedWeight, format: str) -> bool:
    """Whether a reader that is told ``size`` (-1: whole rows) finds the weight's groups. A row no
    longer than a group is one, except that AWQ's groups fill their rows."""
    if weight.scales.shape[1] > 1:
        return weight.group_size == size
    columns = weight.shape[1]
    return size in (-1, columns) or (columns < size and format == "gptq")


def _describe_gptq(model: Model, layers: Weights) -> dict[str, Any]:
    zeros = any(bool((weight.zeros == 0).any()) for weight in layers.values())
    return {
        **_one_scheme(model, layers, "gptq"),
        "desc_act": any(weight.group is not None for weight in layers.values()),
        "sym": all(map(_symmetric, layers.values())),
        "lm_head": False,
        "checkpoint_format": "gptq_v2" if zeros else "gptq",
    }


def _gptq(weight: QuantizedWeight, settings: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    less = int(settings["checkpoint_format"] == "gptq")
    group = weight.group
    if group is None:
        group = torch.arange(weight.shape[1]) // _size(weight)
    yield "qweight", pack_bits(weight.codes, weight.bits).t()  # [in b / 32, out]
    zeros = (weight.zeros - less).to(torch.uint8).t().contiguous()  # [groups, out]
    yield "qzeros", pack_bits(zeros, weight.bits)
    yield "scales", weight.scales.half().t()
    yield "g_idx", group.int()


def _describe_awq(model: Model, layers: Weights) -> dict[str, Any]:
    return {
        **_one_scheme(model, layers, "awq"),
        "zero_point": True,
        "version": "gemm",
        "modules_to_not_convert": None,
    }


def _awq(weight: QuantizedWeight, settings: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    codes, zeros = weight.codes.t(), weight.zeros.to(torch.uint8).t()  # [in or groups, out]
    for name, x in (("qweight", codes), ("qzeros", zeros)):
        mixed = x.reshape(len(x), -1, 8)[..., AWQ_COLUMNS].reshape(len(x), -1)
        yield name, pack_bits(mixed, 4)
    yield "scales", weight.scales.half().t()


def _describe_compressed(model: Model, layers: Weights) -> dict[str, Any]:
    modules: dict[tuple[int, int, bool], list[str]] = {}
    for name, weight in layers.items():
        modules.setdefault(_scheme(weight), []).append(name)
    groups = {}
    for number, ((bits, size, symmetric), names) in enumerate(modules.items()):
        weights = {
            "num_bits": bits,
            "type": "int",
            "symmetric": symmetric,
            "strategy": "channel" if size == -1 else "group",
            "group_size": None if size == -1 else size,
            "dynamic": False,
        }
        targets = ["Linear"] if len(modules) == 1 else names
        groups[f"group_{number}"] = {"targets": targets, "weights": weights}
    linear = (torch.nn.Linear,)
    whole = [name for name, module in model.decoder.named_modules() if isinstance(module, linear)]
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": sorted({"lm_head", *whole}),
    }


def _compressed(
    weight: QuantizedWeight, settings: Mapping[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    yield "weight_packed", pack_bits(weight.codes, weight.bits)
    yield "weight_scale", weight.scales.half()
    yield "weight_shape", torch.tensor(weight.shape)
    if not _symmetric(weight):
        zeros = weight.zeros.to(torch.uint8).t().contiguous()  # [groups, out]
        yield "weight_zero_point", pack_bits(zeros, weight.bits).t()


_Describe = Callable[[Model, Weights], dict[str, Any]]
_Write = Callable[[QuantizedWeight, Mapping[str, Any]], Iterator[tuple[str, Tensor]]]
_FORMATS: dict[str, tuple[_Describe, _Write]] = {
    "gptq": (_describe_gptq, _gptq),
    "awq": (_describe_awq, _awq),
    "compressed-tensors": (_describe_compressed, _compressed),
}
