"""Weights in a few bits: one form for every method, and the layers that compute with it.

    w[o, i] = (codes[o, i] - zeros[o, g]) * scales[o, g],      g = group[i]

Codes are whole numbers of ``bits`` bits; each group of input columns of each row has a scale and
a zero point. All uniform methods differ in how they choose the three, not in what they are:
round-to-nearest, GPTQ, AWQ, and GGUF's Q8_0, Q4_0, Q4_1 and Q4_K (whose minimum m is the zero
point -m / scale). With a ``codebook`` the codes are names of values instead, as in NF4:
``w = codebook[codes] * scales``.

``QuantizedLinear`` computes in bfloat16 on a processor with PyTorch's weight-only kernels, which
read the packed codes and nothing else; elsewhere it dequantizes the whole matrix for each call.
The kernels are compiled code for bfloat16 alone: in float32 the same operators are plain loops.
Measured with torch 2.13 on two cores with AVX-512 BF16, a 1536 x 576 matrix, milliseconds::

    rows                                1      16     256
    bfloat16, 4 bits packed          0.03    0.17    2.7
    bfloat16, 8 bits packed          0.03    0.20    3.0
    bfloat16, not quantized          0.08    0.12    1.1
    float32, 4 bits packed           0.75     13     196
    float32, dequantized each call   0.41     1.5    5.5

A packed product of a row does not depend on the rows beside it, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmwright.core import InputError
from llmwright.modeling.decoder import Decoder

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A matrix [out, in] in ``bits`` bits.

    Shapes: codes [out, in] uint8; scales and zeros [out, groups] float32; group [in] int64 names
    each column's group where they are not in order (GPTQ with act-order), else None and column i
    belongs to group ``i // group_size``. A zero point need not be a whole number.
    ``group_bits`` is what a group's scale and zero point take in a file: 16 for a half-precision
    scale alone, 20 with a zero point of 4 bits.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor
    bits: int
    group_size: int
    group: Tensor | None = None
    codebook: Tensor | None = None  # [2 ** bits] float32
    minima: Tensor | None = None  # [out, groups] float32, equal to -zeros * scales but for rounding
    group_bits: float = 16.0

    @property
    def shape(self) -> torch.Size:
        return self.codes.shape

    @property
    def stored_bits(self) -> float:
        """Bits that the matrix takes in a file: codes, groups, and the order of columns."""
        order = 0 if self.group is None else 32 * self.codes.shape[1]
        return self.codes.numel() * self.bits + self.scales.numel() * self.group_bits + order

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What it is made of, by the names of the fields."""
        names = ("codes", "scales", "zeros", "group", "codebook", "minima")
        return {name: part for name in names if (part := getattr(self, name)) is not None}

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix [out, in] that the codes stand for."""
        codes, spread = self.codes, self._spread
        rows, columns = codes.shape
        if self.group is None and columns % self.group_size == 0:
            # Whole groups side by side: their values are broadcast, not copied.
            codes = codes.reshape(rows, columns // self.group_size, self.group_size)
            spread = _over_columns
        if self.codebook is not None:
            values = self.codebook[codes.long()].mul_(spread(self.scales))
        elif self.minima is not None:
            values = codes.float().mul_(spread(self.scales)).add_(spread(self.minima))
        else:
            values = codes.float().sub_(spread(self.zeros)).mul_(spread(self.scales))
        return values.reshape(rows, columns).to(dtype)

    def rows(self, chosen: Tensor) -> QuantizedWeight:
        """The matrix [n, in] of the ``chosen`` [n] rows."""
        return replace(
            self,
            codes=self.codes[chosen],
            scales=self.scales[chosen],
            zeros=self.zeros[chosen],
            minima=None if self.minima is None else self.minima[chosen],
        )

    def to(self, device: torch.device) -> QuantizedWeight:
        """The same matrix on another device."""
        moved: dict[str, Any] = {name: part.to(device) for name, part in self.tensors.items()}
        return replace(self, **moved)

    def _spread(self, values: Tensor) -> Tensor:
        """Each group's value, [out, groups], at each of its columns, [out, in]."""
        if self.group is not None:
            return values[:, self.group]
        return values.repeat_interleave(self.group_size, dim=1)[:, : self.codes.shape[1]]


def _over_columns(values: Tensor) -> Tensor:
    return values.unsqueeze(-1)  # [out, groups, 1]


class QuantizedLinear(nn.Module):
    """A linear layer over a ``QuantizedWeight``, in place of ``nn.Linear``.

    Gradients flow to the input and to nothing else. With ``eight_bit_inputs`` the input is rounded
    to 8 bits as well, each token by its own largest value, and the product is one of whole
    numbers (W8A8); the weight must then be symmetric, of 8 bits, with one group a row.
    """

    def __init__(
        self, weight: QuantizedWeight, bias: Tensor | None = None, *, eight_bit_inputs: bool = False
    ) -> None:
        super().__init__()
        if eight_bit_inputs and _signed_rows(weight) is None:
            raise InputError(
                "inputs of 8 bits need weights that are symmetric with one scale a row",
                fix="quantize with bits=8, group_size=0 and symmetric=True",
            )
        self.quantized = weight
        self.bias = bias
        self.eight_bit_inputs = eight_bit_inputs
        self._packed: Product | None = None
        self._tried = False

    @property
    def out_features(self) -> int:
        return self.quantized.shape[0]

    @property
    def in_features(self) -> int:
        return self.quantized.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [..., in] -> [..., out], in the dtype of ``x``."""
        needs_gradient = x.requires_grad and torch.is_grad_enabled()
        product = None if needs_gradient else self._product(x)
        if product is None:
            return F.linear(x, self.quantized.dequantize(x.dtype), self.bias)
        y = product(x.reshape(-1, self.in_features)).view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def _product(self, x: Tensor) -> Product | None:
        """The quick product for ``x``, where there is one; packed when first asked for."""
        if x.device.type != "cpu" or not (self.eight_bit_inputs or x.dtype == torch.bfloat16):
            return None
        if not self._tried:
            pack = _pack_w8a8 if self.eight_bit_inputs else _pack
            self._packed, self._tried = pack(self.quantized), True
        return self._packed

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        # ``fn`` moves and casts. Codes and scales are moved only: their dtypes are their meaning.
        device = fn(self.quantized.scales[:0]).device
        if device != self.quantized.scales.device:
            self.quantized, self._tried = self.quantized.to(device), False
        if self.bias is not None:
            self.bias = fn(self.bias)
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]


class QuantizedEmbedding(nn.Module):
    """An embedding whose rows are dequantized as they are looked up."""

    def __init__(self, weight: QuantizedWeight, dtype: torch.dtype) -> None:
        super().__init__()
        self.quantized = weight
        self.dtype = dtype

    def forward(self, token_ids: Tensor) -> Tensor:
        """``token_ids`` [...] -> [..., hidden]."""
        rows = self.quantized.rows(token_ids.reshape(-1)).dequantize(self.dtype)
        return rows.view(*token_ids.shape, -1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedEmbedding:
        like = fn(torch.empty(0, dtype=self.dtype, device=self.quantized.scales.device))
        self.quantized, self.dtype = self.quantized.to(like.device), like.dtype
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]


def replace_linears(
    decoder: Decoder, weights: Mapping[str, QuantizedWeight], *, eight_bit_inputs: bool = False
) -> None:
    """Let ``decoder`` compute with quantized weights, in place.

    Names are those of modules: "model.layers.0.self_attn.q_proj", "lm_head",
    "model.embed_tokens". Where output matrix and embedding are one, either name stands for both
    and they go on sharing. Biases stay. ``eight_bit_inputs`` goes to each linear layer but
    lm_head. Raises ``InputError``, and changes nothing, where a name or a shape does not fit.
    """
    embedding, output = "model.embed_tokens", "lm_head"
    weights = dict(weights)
    if decoder.config.tie_word_embeddings:
        shared = weights.get(output, weights.get(embedding))
        if shared is not None:
            weights |= {embedding: shared, output: shared}
    made = {}
    for name, weight in weights.items():
        old = _module(decoder, name)
        new: nn.Module
        if isinstance(old, nn.Embedding | QuantizedEmbedding):
            expected = (decoder.config.vocab_size, decoder.config.hidden_size)
            new = QuantizedEmbedding(weight, decoder.dtype)
        else:
            expected = (old.out_features, old.in_features)
            eight = eight_bit_inputs and name != output
            bias = None if old.bias is None else old.bias.detach()
            new = QuantizedLinear(weight, bias, eight_bit_inputs=eight)
        if weight.shape != expected:
            raise InputError(
                f"the quantized weight of {name} is {list(weight.shape)}, and the layer's is "
                f"{list(expected)}",
                fix="weights and model must belong together",
            )
        made[name] = new
    for name, module in made.items():
        parent, _, own = name.rpartition(".")
        setattr(decoder.get_submodule(parent), own, module)


def quantized_weights(decoder: Decoder) -> dict[str, QuantizedWeight]:
    """The quantized weights of a decoder by module name, as ``replace_linears`` takes them."""
    kinds = (QuantizedLinear, QuantizedEmbedding)
    return {n: m.quantized for n, m in decoder.named_modules() if isinstance(m, kinds)}


def _module(
    decoder: Decoder, name: str
) -> nn.Linear | QuantizedLinear | nn.Embedding | QuantizedEmbedding:
    module = dict(decoder.named_modules()).get(name)
    if isinstance(module, nn.Linear | QuantizedLinear | nn.Embedding | QuantizedEmbedding):
        return module
    raise InputError(f"the model has no linear layer {name!r}", fix="name one that it has")


def _signed_rows(weight: QuantizedWeight) -> Tensor | None:
    """Codes about zero, int8 [out, in], where each row has one scale and all one zero point."""
    if weight.codebook is not None or weight.minima is not None or weight.scales.shape[1] != 1:
        return None
    zero = float(weight.zeros[0, 0])
    if not zero.is_integer() or bool((weight.zeros != zero).any()):
        return None
    codes = weight.codes.to(torch.int16) - int(zero)
    if bool((codes < -128).any()) or bool((codes > 127).any()):
        return None
    return codes.to(torch.int8)


def _pack_w8a8(weight: QuantizedWeight) -> Product | None:
    codes = _signed_rows(weight)
    assert codes is not None
    transposed, scales = codes.t(), weight.scales[:, 0]

    def product(x: Tensor) -> Tensor:
        values = x.float()
        steps = values.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127  # [rows, 1]
        rounded = (values / steps).round().to(torch.int8)
        whole = torch._int_mm(rounded, transposed)  # [rows, out] int32, exact
        return (whole.float() * steps * scales).to(x.dtype)

    return product


def _pack(weight: QuantizedWeight) -> Product | None:
    """The product of bfloat16 rows with ``weight`` by a packed kernel, where one takes it."""
    if weight.codebook is not None:
        return None
    if weight.bits <= 4:
        return _pack_four_bits(weight)
    codes = _signed_rows(weight)
    if codes is None or codes.shape[1] % 16:  # the kernel reads 16 columns at a time, unchecked
        return None
    scales = weight.scales[:, 0].bfloat16()
    return lambda x: torch.ops.aten._weight_int8pack_mm(x.contiguous(), codes, scales)


def _pack_four_bits(weight: QuantizedWeight) -> Product | None:
    """The kernel computes ``(code - 8) * scale + shift`` in groups of 32, 64, 128 or 256."""
    rows, columns = weight.shape
    device = weight.codes.device
    group = weight.group
    if group is None:
        group = torch.arange(columns, device=device) // weight.group_size
    order = None
    if bool((group.diff() < 0).any()):  # columns of one group are put side by side
        order = group.argsort(stable=True)
        group = group[order]
    # A group may be cut into several of the kernel's, which then have the same scale.
    size = next((n for n in (256, 128, 64, 32) if _constant(group, n)), None)
    if size is None or rows % 16:
        return None
    chosen = group[::size]  # [kernel's groups]
    # Codes of fewer bits are centred on 8 too, so that shifts are small and bfloat16 holds them.
    half = 1 << (weight.bits - 1)
    shift = (half - weight.zeros) * weight.scales
    if weight.minima is not None:
        shift = weight.minima + half * weight.scales
    pairs = torch.stack((weight.scales, shift), -1)[:, chosen]  # [out, kernel's groups, 2]
    pairs = pairs.transpose(0, 1).contiguous().bfloat16()
    codes = (weight.codes if order is None else weight.codes[:, order]).int() + (8 - half)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)

    def product(x: Tensor) -> Tensor:
        x = x if order is None else x[:, order]
        y: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x.contiguous(), packed, size, pairs)
        return y

    return product


def _constant(group: Tensor, size: int) -> bool:
    """Whether ``group`` [in] falls into runs of ``size`` columns of one group."""
    if len(group) % size:
        return False
    runs = group.view(-1, size)
    return bool((runs == runs[:, :1]).all())
