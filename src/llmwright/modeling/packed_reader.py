"""Quantized safetensors as the Hugging Face world writes them, read into ``QuantizedWeight``.

Each replaces the matrix ``weight`` [out, in] of a layer by integers, named after it, b being the
bits of a code and G the groups along in (words are int32, see ``bits``):

gptq (AutoGPTQ, GPTQModel; 2, 3, 4 or 8 bits)
    ``qweight`` [in b / 32, out] packed along in, ``qzeros`` [G, out b / 32] packed along out,
    ``scales`` [G, out], ``g_idx`` [in] the group of each column. Version 1 of the format stores
    each zero point less one; ``checkpoint_format = "gptq_v2"`` does not.
awq (AutoAWQ, its GEMM layout; 4 bits)
    ``qweight`` [in, out / 8] and ``qzeros`` [G, out / 8] packed along out, where the eight codes
    of a word are of columns 0, 2, 4, 6, 1, 3, 5, 7; ``scales`` [G, out].
compressed-tensors (llm-compressor, vLLM; ``pack-quantized``)
    ``weight_packed`` [out, in b / 32] packed along in, ``weight_scale`` [out, G],
    ``weight_zero_point`` [out b / 32, G] packed along out unless symmetric, ``weight_shape``, and
    in older files ``weight_g_idx`` [in].
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from llmwright.core import ModelSourceError
from llmwright.modeling.bits import unpack_bits
from llmwright.modeling.quantized import QuantizedWeight

Parts = Mapping[str, Tensor]
# Which of a word's four-bit fields holds each of its eight columns, and the reverse.
AWQ_COLUMNS = [0, 2, 4, 6, 1, 3, 5, 7]
_AWQ_FIELDS = [0, 4, 1, 5, 2, 6, 3, 7]


def read_packed(
    tensors: Iterable[tuple[str, Tensor]], settings: Mapping[str, Any], where: str
) -> Iterator[tuple[str, Tensor | QuantizedWeight]]:
    """The tensors of a checkpoint with the packed ones put together, by the names that their
    matrices would have; ``settings`` is the quantization_config of config.json.

    Raises ``ModelSourceError``.
    """
    method = settings.get("quant_method")
    if not isinstance(method, str) or method not in _FORMS:
        raise ModelSourceError(
            f"the weights are quantized in a form that is not read here ({method!r})",
            where=where,
            fix=f"forms read here: {', '.join(_FORMS)}; or use a GGUF file or the whole weights",
        )
    read, names = _FORMS[method]
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors:
        module, _, part = name.rpartition(".")
        if part in names:
            layers[module][part] = tensor
        else:
            yield name, tensor
    for module, parts in layers.items():
        try:
            own = _layer_settings(module, settings) if read is _compressed else settings
            yield f"{module}.weight", read(parts, own)
        except _LayerError as error:
            raise ModelSourceError(
                f"the quantized layer {module} {error}",
                where=where,
                fix="fetch it again, or check that its config.json belongs to it",
            ) from error


class _LayerError(Exception):
    """What is wrong with a layer."""


def _gptq(parts: Parts, settings: Mapping[str, Any]) -> QuantizedWeight:
    bits = _number(settings, "bits", (2, 3, 4, 8))
    version = settings.get("checkpoint_format") or settings.get("format") or "gptq"
    if version not in ("gptq", "gptq_v2"):
        raise _LayerError(f"is packed as {version!r}, and only gptq and gptq_v2 are read here")
    packed = _part(parts, "qweight", torch.int32, 2)
    columns, out = packed.shape[0] * 32 // bits, packed.shape[1]
    scales = _part(parts, "scales", None, 2)
    groups = scales.shape[0]
    _shape(scales, (groups, out), "scales")
    zeros = _zero_points(_part(parts, "qzeros", torch.int32, 2), bits, groups, out, "qzeros")
    zeros = zeros.float() + (version == "gptq")
    size = _group_size(settings, columns, groups)
    order = _order(parts.get("g_idx"), columns, groups, size)
    codes = unpack_bits(packed.t(), bits, columns)  # [out, in]
    return _weight(codes, scales.t(), zeros.t(), bits, size, order, 16.0 + bits)


def _awq(parts: Parts, settings: Mapping[str, Any]) -> QuantizedWeight:
    bits = _number(settings, "bits", (4,))
    version = str(settings.get("version") or settings.get("format") or "gemm").lower()
    if version != "gemm":
        raise _LayerError(f"is packed as {version!r}, and only gemm is read here")
    packed = _part(parts, "qweight", torch.int32, 2)
    columns, out = packed.shape[0], packed.shape[1] * 8
    scales = _part(parts, "scales", None, 2)
    groups = scales.shape[0]
    _shape(scales, (groups, out), "scales")
    zeros = _zero_points(_part(parts, "qzeros", torch.int32, 2), bits, groups, out, "qzeros")
    codes, zeros = (
        x.view(len(x), -1, 8)[..., _AWQ_FIELDS].reshape(len(x), out)
        for x in (unpack_bits(packed, bits, out), zeros)
    )
    size = _group_size(settings, columns, groups)
    if size * groups != columns:
        raise _LayerError(f"has {groups} groups of {size} for {columns} columns")
    return _weight(codes.t(), scales.t(), zeros.t(), bits, size, None, 16.0 + bits)


def _compressed(parts: Parts, settings: Mapping[str, Any]) -> QuantizedWeight:
    bits = _number(settings, "num_bits", range(1, 9))
    shape = _part(parts, "weight_shape", None, 1).tolist()
    packed = _part(parts, "weight_packed", torch.int32, 2)
    if len(shape) != 2 or shape[0] != packed.shape[0] or shape[1] < 1:
        raise _LayerError(f"says that it is {shape}, and has {packed.shape[0]} packed rows")
    out, columns = int(shape[0]), int(shape[1])
    _shape(packed, (out, -(-columns * bits // 32)), "weight_packed")
    scales = _part(parts, "weight_scale", None, 2)
    groups = scales.shape[1]
    _shape(scales, (out, groups), "weight_scale")
    symmetric = bool(settings.get("symmetric", True))
    if symmetric:
        zeros = torch.full((out, groups), 2.0 ** (bits - 1))
    else:
        points = _part(parts, "weight_zero_point", torch.int32, 2)
        zeros = _zero_points(points.t(), bits, groups, out, "weight_zero_point").t()
    size = _group_size(settings, columns, groups)
    order = _order(parts.get("weight_g_idx"), columns, groups, size)
    codes = unpack_bits(packed, bits, columns)
    return _weight(codes, scales, zeros, bits, size, order, 16.0 + bits * (not symmetric))


def _layer_settings(module: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the config_groups of compressed-tensors say of the weights of a layer."""
    try:
        for group in settings["config_groups"].values():
            for target in group["targets"]:
                if target in ("Linear", module) or (
                    target.startswith("re:") and re.match(target[3:], module)
                ):
                    style = group.get("format") or settings.get("format")
                    if style != "pack-quantized" or group.get("input_activations"):
                        raise _LayerError(f"is {style!r}, and only pack-quantized is read here")
                    return dict(group["weights"])
    except (KeyError, AttributeError, TypeError, ValueError, re.error) as error:
        raise _LayerError(f"is described by a broken quantization_config ({error})") from error
    raise _LayerError("is named by no group of its quantization_config")


def _number(settings: Mapping[str, Any], name: str, known: Iterable[int]) -> int:
    value = settings.get(name)
    if not isinstance(value, int) or value not in known:
        raise _LayerError(f"has {name} = {value!r}, and read here are {', '.join(map(str, known))}")
    return value


def _part(parts: Parts, name: str, dtype: torch.dtype | None, dimensions: int) -> Tensor:
    tensor = parts.get(name)
    if tensor is None:
        raise _LayerError(f"lacks the tensor {name!r}")
    if tensor.ndim != dimensions or not tensor.numel():
        raise _LayerError(f"has {name!r} of shape {list(tensor.shape)}")
    if dtype is not None and tensor.dtype != dtype:
        raise _LayerError(f"has {name!r} as {tensor.dtype}, and it must be {dtype}")
    return tensor


def _shape(tensor: Tensor, shape: tuple[int, ...], name: str) -> None:
    if tensor.shape != shape:
        raise _LayerError(f"has {name!r} of shape {list(tensor.shape)} in place of {list(shape)}")


def _zero_points(packed: Tensor, bits: int, groups: int, out: int, name: str) -> Tensor:
    """Zero points [groups, out] from words [groups, out bits / 32]."""
    _shape(packed, (groups, -(-out * bits // 32)), name)
    return unpack_bits(packed, bits, out)


def _group_size(settings: Mapping[str, Any], columns: int, groups: int) -> int:
    """Columns of a group; where the settings name none, or -1, there is one for a whole row."""
    size = settings.get("group_size")
    size = columns if size in (None, -1, 0) else size
    if not isinstance(size, int) or size < 1 or -(-columns // size) != groups:
        raise _LayerError(f"has {groups} groups for {columns} columns, and group_size {size!r}")
    return size


def _order(g_idx: Tensor | None, columns: int, groups: int, size: int) -> Tensor | None:
    """The group of each column, or None where they are in order."""
    if g_idx is None:
        return None
    _shape(g_idx, (columns,), "g_idx")
    order = g_idx.long()
    if bool(((order < 0) | (order >= groups)).any()):
        raise _LayerError(f"names a group in g_idx beyond its {groups}")
    return None if torch.equal(order, torch.arange(columns) // size) else order


def _weight(
    codes: Tensor,
    scales: Tensor,
    zeros: Tensor,
    bits: int,
    size: int,
    order: Tensor | None,
    group_bits: float,
) -> QuantizedWeight:
    scales, zeros = (x.float().contiguous() for x in (scales, zeros))
    return QuantizedWeight(
        codes.contiguous(), scales, zeros, bits, size, order, group_bits=group_bits
    )


# By quant_method: what reads a layer, and the names of its parts.
_FORMS: dict[str, tuple[Callable[[Parts, Mapping[str, Any]], QuantizedWeight], tuple[str, ...]]] = {
    "gptq": (_gptq, ("qweight", "qzeros", "scales", "g_idx")),
    "awq": (_awq, ("qweight", "qzeros", "scales")),
    "compressed-tensors": (
        _compressed,
        ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx"),
    ),
}
