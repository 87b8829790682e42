"""Quantized weights written into GGUF blocks with their codes as they are.

Whoever chose the codes (GPTQ, AWQ, another file) chose them with care; to round once more would
undo that. A type can hold a ``QuantizedWeight`` when its groups are whole blocks in order:

    Q8_0, Q4_0, Q5_0   codes about one whole zero point: q - z fits, w = d (q - z)
    Q4_1               any zero point: m = -z d
    Q4_K               scales and minima that are whole multiples, to 63, of a common one in each
                       256 columns, as they are in weights read from such a file

Scales are rounded to the 16 bits of the format, which moves a weight by at most 1/2048 of itself.
"""

from __future__ import annotations

import numpy as np
from gguf.constants import GGMLQuantizationType as Type

from llmwright.modeling.gguf_blocks import LARGEST_HALF, Bytes, Floats, pack, pack_q4_k
from llmwright.modeling.quantized import QuantizedWeight

# The code that stands for zero, which lies in the middle.
_ZERO = {Type.Q8_0: 128, Type.Q4_0: 8, Type.Q5_0: 16}


def repacked(weight: QuantizedWeight, kind: Type) -> Bytes | None:
    """Rows [out, bytes] of ``kind`` with the codes of ``weight``, or None where it cannot hold
    them."""
    columns = weight.shape[1]
    if (
        weight.codebook is not None
        or weight.group is not None
        or columns % 32
        or (weight.group_size % 32 and weight.scales.shape[1] > 1)
    ):
        return None
    scales, zeros = _blocks(weight.scales.numpy(), weight), _blocks(weight.zeros.numpy(), weight)
    codes = weight.codes.numpy()
    if kind in _ZERO:
        return None if weight.minima is not None else _symmetric(codes, scales, zeros, kind)
    if weight.bits > 4:
        return None
    minima = -zeros * scales if weight.minima is None else _blocks(weight.minima.numpy(), weight)
    if kind == Type.Q4_1:
        return pack(codes, scales, minima, kind) if _fit(scales, minima) else None
    return _q4_k(codes, scales, minima) if kind == Type.Q4_K and columns % 256 == 0 else None


def _blocks(values: Floats, weight: QuantizedWeight) -> Floats:
    """A value for each block of 32 columns from one for each group."""
    columns = weight.shape[1]
    group = weight.group_size if values.shape[1] > 1 else columns
    return np.repeat(values, group // 32, axis=1)[:, : columns // 32]


def _symmetric(codes: Bytes, scales: Floats, zeros: Floats, kind: Type) -> Bytes | None:
    zero = _ZERO[kind]
    if (zeros != np.rint(zeros)).any() or not _fit(scales):
        return None
    moved = codes.astype(np.int16) - np.repeat(zeros, 32, axis=1).astype(np.int16)
    if moved.min() < -zero or moved.max() >= zero:
        return None
    return pack((moved + zero).astype(np.uint8), scales, None, kind)


def _q4_k(codes: Bytes, scales: Floats, minima: Floats) -> Bytes | None:
    unused = (codes.reshape(*scales.shape, 32) == 0).all(-1)  # a block that is its minimum
    steps = _multiples(np.where(unused, 0, scales))
    shifts = _multiples(-minima)
    if steps is None or shifts is None:
        return None
    return pack_q4_k(codes, *steps, *shifts)


def _multiples(values: Floats) -> tuple[Floats, Bytes] | None:
    """``values`` [out, in / 32] as six-bit multiples of a 16-bit number for each eight of them,
    which is tried as 1/63, 1/62, ... of the largest."""
    values = values.reshape(len(values), -1, 8)
    largest = values.max(-1)  # [out, in / 256]
    d, numbers = np.zeros_like(largest), np.zeros(values.shape, dtype=np.uint8)
    open_ = largest > 0
    if (values < 0).any() or not _fit(values):
        return None
    for multiple in range(63, 0, -1):
        trial = (largest / np.float32(multiple)).astype(np.float16).astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            whole = np.rint(values / trial[..., None])
        found = open_ & (whole * trial[..., None] == values).all(-1) & (whole <= 63).all(-1)
        d[found], numbers[found] = trial[found], whole[found].astype(np.uint8)
        open_ &= ~found
    return None if open_.any() else (d, numbers)


def _fit(*values: Floats) -> bool:
    """Whether they are finite in 16 bits."""
    return all(bool((np.abs(value) <= LARGEST_HALF).all()) for value in values)
