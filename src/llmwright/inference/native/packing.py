"""Weights into the panels that the kernels read from front to back.

Matrices that share their input (query, key and value; gate and up) become one where their form
allows, so that a token's products are four a layer. The four forms are drawn in ``products.h``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from llmwright.core import ConfigurationError
from llmwright.inference.native.layout import BF16, F32, INT4, INT8, LinearC, MatrixC
from llmwright.inference.native.library import KERNELS
from llmwright.modeling import Decoder, QuantizedLinear, QuantizedWeight

_CHUNK = 64 << 20


@dataclass
class Arena:
    """Memory that packed weights lie in one after another, in huge pages where there are any.

    ``bytes`` counts what was asked for. The tensors live as long as the arena.
    """

    bytes: int = 0
    kept: list[Tensor] = field(default_factory=list)
    _chunk: Tensor | None = None
    _used: int = 0

    def keep(self, values: Tensor) -> int:
        """Copy ``values`` to 64-byte aligned memory and give its address."""
        values = values.detach()
        size = values.numel() * values.element_size()
        if self._chunk is None or self._used + size + 64 > self._chunk.numel():
            self._chunk = torch.empty(max(_CHUNK, size + 64), dtype=torch.uint8)
            KERNELS.load().lw_advise(self._chunk.data_ptr(), self._chunk.numel())
            self.kept.append(self._chunk)
            self._used = -self._chunk.data_ptr() % 64
        place = self._chunk[self._used : self._used + size]
        place.view(values.dtype).view(values.shape).copy_(values)
        self._used += (size + 63) // 64 * 64
        self.bytes += size
        return place.data_ptr()


def pack_linear(layers: Sequence[nn.Module], arena: Arena, *, dtype: torch.dtype) -> LinearC:
    """One input, the outputs of ``layers`` side by side.

    Layers are ``nn.Linear``, whose weights are packed in ``dtype``, and ``QuantizedLinear``.
    """
    inputs = _in_features(layers[0])
    order, forms = _common_order(layers)
    linear = LinearC(k=_up(inputs, 32), count=0)
    column = 0
    for form, together in _fused(layers, forms):
        matrix = _matrix(together, form, arena, order, dtype)
        matrix.column = column
        linear.parts[linear.count] = matrix
        linear.count += 1
        linear.forms |= 1 << matrix.kind
        column += matrix.n
    linear.width = column
    if order is not None:
        places = torch.arange(linear.k, dtype=torch.int32)
        places[: len(order)] = order
        linear.perm = arena.keep(places)
    return linear


def packed_bytes(decoder: Decoder) -> int:
    """Bytes that the packed weights of ``decoder`` take, from above: known before any is packed."""
    total = 4 * sum(weight.numel() for weight in decoder.parameters() if weight.ndim == 1)
    for module in decoder.modules():
        if isinstance(module, QuantizedLinear):
            weight = module.quantized
            plain = weight.codebook is not None or weight.group_size % 32
            bits = 8 * decoder.dtype.itemsize if plain else 4 if weight.bits <= 4 else 8
            scales = 4 * weight.scales.numel()  # a scale and a minimum, 16 bits each
            total += weight.codes.numel() * bits // 8 + scales
        elif isinstance(module, nn.Linear):
            total += module.weight.nbytes
    return total


def _up(n: int, to: int) -> int:
    return (n + to - 1) // to * to


def _in_features(layer: nn.Module) -> int:
    if isinstance(layer, nn.Linear | QuantizedLinear):
        return layer.in_features
    raise ConfigurationError(
        f"{type(layer).__name__} is no layer that the native runner computes",
        fix="use nn.Linear or QuantizedLinear, or set LLMWRIGHT_NATIVE=0",
    )


def _order(weight: QuantizedWeight) -> Tensor | None:
    """The order in which the columns of one group stand together, None where they do."""
    if weight.group is None or bool((weight.group.diff() >= 0).all()):
        return None
    return weight.group.argsort(stable=True)


def _whole_numbers(weight: QuantizedWeight, order: Tensor | None) -> int | None:
    """Columns a group, a multiple of 32, where products of whole numbers can be used."""
    columns = weight.shape[1]
    if weight.codebook is not None:
        return None
    group = weight.group
    if group is None:
        size = weight.group_size or columns
        return _up(columns, 32) if size >= columns else size if size % 32 == 0 else None
    group = group if order is None else group[order]
    size = _up(columns, weight.scales.shape[1]) // weight.scales.shape[1]
    regular = torch.arange(columns, device=group.device) // size
    return size if size % 32 == 0 and bool((group == regular).all()) else None


@dataclass(frozen=True)
class _Form:
    """What two matrices must have in common to become one."""

    kind: str
    group: int = 0
    zero: int | None = None
    half: bool = False


def _common_order(layers: Sequence[nn.Module]) -> tuple[Tensor | None, list[_Form]]:
    """The order of columns, and each layer's form: a layer that would need another order than
    the first ordered one is dequantized."""
    orders = [_order(x.quantized) if isinstance(x, QuantizedLinear) else None for x in layers]
    order = next((o for o in orders if o is not None), None)
    forms = []
    for layer, own in zip(layers, orders, strict=True):
        same = (own is None) == (order is None) and (own is None or torch.equal(own, order))  # type: ignore[arg-type]
        forms.append(_form(layer, own) if same else _Form("dense"))
    return order, forms


def _form(layer: nn.Module, order: Tensor | None) -> _Form:
    if not isinstance(layer, QuantizedLinear):
        return _Form("dense")
    weight = layer.quantized
    group = _whole_numbers(weight, order)
    if group is None:
        return _Form("dense")
    zeros = weight.zeros
    first = float(zeros.view(-1)[0])
    whole = weight.minima is None and first.is_integer() and bool((zeros == first).all())
    values = [weight.scales] if whole else [weight.scales, _offsets(weight)]
    half = all(_halves(v) for v in values)
    kind = "int4" if weight.bits <= 4 else "int8"
    return _Form(kind, group, int(first) if whole else None, half)


def _offsets(weight: QuantizedWeight) -> Tensor:
    return weight.minima if weight.minima is not None else -weight.zeros * weight.scales


def _halves(values: Tensor) -> bool:
    """Whether half precision holds ``values`` but for float32's own rounding."""
    rounded = values.half().float()
    return bool(((rounded - values).abs() <= values.abs() * 2**-21).all())


def _fused(
    layers: Sequence[nn.Module], forms: Sequence[_Form]
) -> list[tuple[_Form, list[nn.Module]]]:
    """Neighbours of one form together."""
    groups: list[tuple[_Form, list[nn.Module]]] = []
    for layer, form in zip(layers, forms, strict=True):
        if groups and groups[-1][0] == form:
            groups[-1][1].append(layer)
        else:
            groups.append((form, [layer]))
    return groups


def _matrix(
    layers: Sequence[Any],
    form: _Form,
    arena: Arena,
    order: Tensor | None,
    dtype: torch.dtype,
) -> MatrixC:
    lanes = KERNELS.load().lw_lanes()
    outputs = sum(layer.out_features for layer in layers)
    columns = _up(layers[0].in_features, 32)
    matrix = MatrixC(n=outputs, k=columns, group=1)
    if any(layer.bias is not None for layer in layers):
        parts = [torch.zeros(x.out_features) if x.bias is None else x.bias.float() for x in layers]
        matrix.bias = arena.keep(torch.cat([*parts, torch.zeros(32)]))
    if form.kind == "dense":
        kind = torch.float32 if dtype == torch.float32 else torch.bfloat16
        dense = [_dense(layer, kind) for layer in layers]
        if order is not None and kind == torch.bfloat16:
            dense = [weight[:, order] for weight in dense]
        matrix.kind = F32 if kind == torch.float32 else BF16
        matrix.codes = arena.keep(_dense_panels(_stacked(dense), columns, lanes))
        return matrix
    weights = [layer.quantized for layer in layers]
    codes = _stacked([w.codes if order is None else w.codes[:, order] for w in weights])
    matrix.kind = INT4 if form.kind == "int4" else INT8
    matrix.group = form.group // 32
    matrix.half_scales = form.half
    matrix.codes = arena.keep(_code_panels(codes, columns, lanes, four_bits=form.kind == "int4"))
    kind = torch.float16 if form.half else torch.float32
    matrix.scales = arena.keep(
        _scale_panels(torch.cat([w.scales for w in weights]).to(kind), lanes)
    )
    if form.zero is None:
        offsets = torch.cat([_offsets(w) for w in weights]).to(kind)
        matrix.offsets = arena.keep(_scale_panels(offsets, lanes))
    else:
        matrix.zero = form.zero
    return matrix


def _dense(layer: nn.Linear | QuantizedLinear, dtype: torch.dtype) -> Tensor:
    if isinstance(layer, QuantizedLinear):
        return layer.quantized.dequantize(dtype)
    return layer.weight.detach().to(dtype)


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))  # no copy of the widest


def _padded(values: Tensor, rows: int, columns: int) -> Tensor:
    """[rows, columns] with zeros below and to the right of ``values``."""
    if values.shape == (rows, columns):
        return values
    out = values.new_zeros(rows, columns)
    out[: values.shape[0], : values.shape[1]] = values
    return out


def _dense_panels(weight: Tensor, columns: int, lanes: int) -> Tensor:
    """[out, in] -> [panels, in, 2 lanes], for bfloat16 [panels, in / 2, 2 lanes, 2], as int32."""
    weight = _padded(weight, _up(weight.shape[0], 2 * lanes), columns)
    words = weight.view(torch.int32)  # moved four bytes at a time
    return words.view(-1, 2 * lanes, words.shape[1]).transpose(1, 2)


def _code_panels(codes: Tensor, columns: int, lanes: int, *, four_bits: bool) -> Tensor:
    """[out, in] uint8 -> [panels, in / 4, lanes, 4], or two codes a byte
    [panels, in / 8, lanes, 4], as int32."""
    codes = _padded(codes, _up(codes.shape[0], lanes), columns)
    words = codes.contiguous().view(torch.int32)  # four codes each
    if four_bits:
        words = words[:, 0::2] | words[:, 1::2] << 4
    return words.view(-1, lanes, words.shape[1]).transpose(1, 2)


def _scale_panels(values: Tensor, lanes: int) -> Tensor:
    """[out, groups] -> [panels, groups, lanes]."""
    values = _padded(values, _up(values.shape[0], lanes), values.shape[1])
    return values.view(-1, lanes, values.shape[1]).transpose(1, 2)
