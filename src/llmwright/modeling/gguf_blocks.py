"""The blocks of GGUF's quantized types, taken apart into codes and scales and put together.

A row of weights is cut into blocks of 32, each with a 16-bit scale d and codes q (ggml's
ggml-common.h holds the layouts)::

    Q8_0  d  q:i8[32]                      w = d q                8.5 bits a weight
    Q4_0  d  q:u4[32]                      w = d (q - 8)          4.5
    Q5_0  d  high:u1[32] q:u4[32]          w = d (q - 16)         5.5
    Q4_1  d  m  q:u4[32]                   w = d q + m            5
    Q5_1  d  m  high:u1[32] q:u4[32]       w = d q + m            6

or into super-blocks of 256, whose small blocks have small whole numbers for scales::

    Q4_K  d  dmin  (s, n):u6[8]  q:u4[256]              w = d s q - dmin n       4.5
    Q5_K  d  dmin  (s, n):u6[8]  high:u1[256] q:u4[256] w = d s q - dmin n       5.5
    Q6_K  q:u4[256] high:u2[256] s:i8[16]  d            w = d s (q - 32)         6.5625

Four-bit codes lie in the low halves of the bytes first, then in the high halves: of each 32 codes
in Q4_0 to Q5_1, of each 64 in Q4_K and Q5_K, of each 128 in Q6_K.
"""

from __future__ import annotations

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Type
from numpy.typing import NDArray

from llmwright.modeling.quantized import QuantizedWeight

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

LARGEST_HALF = 65_504.0  # the largest number of float16
_LOW, _SIGN = np.uint8(0x0F), np.uint8(0x80)
# Bits of a code, whether a minimum stands beside the scale, and what else is taken from the code.
_SIMPLE = {
    Type.Q8_0: (8, False, 128),
    Type.Q4_0: (4, False, 8),
    Type.Q5_0: (5, False, 16),
    Type.Q4_1: (4, True, 0),
    Type.Q5_1: (5, True, 0),
}
UNPACKED = frozenset({*_SIMPLE, Type.Q4_K, Type.Q5_K, Type.Q6_K})


def unpack(rows: Bytes, kind: Type) -> QuantizedWeight:
    """The weights [out, in] in ``rows`` [out, bytes] of a type in ``UNPACKED``.

    Their ``dequantize()`` gives the very bits that ggml's and the ``gguf`` package's give.
    """
    size = GGML_QUANT_SIZES[kind][1]
    blocks = rows.reshape(len(rows), -1, size)  # [out, blocks, size]
    if kind == Type.Q6_K:
        return _unpack_q6_k(blocks)
    if kind in (Type.Q4_K, Type.Q5_K):
        return _unpack_q45_k(blocks, kind)
    bits, has_minimum, zero = _SIMPLE[kind]
    scales, at = _halves(blocks, 0), 4 if has_minimum else 2
    if bits == 8:
        codes = blocks[..., at:] ^ _SIGN  # from -128..127 to 0..255
    else:
        high = blocks[..., at : at + 4] if bits == 5 else None
        codes = _low_first(blocks[..., -16:], 32)
        if high is not None:
            codes |= np.unpackbits(high, axis=-1, bitorder="little") << 4
    minima = _halves(blocks, 2) if has_minimum else None
    return _weight(kind, codes, scales, minima, zero, bits)


def pack(codes: Bytes, scales: Floats, minima: Floats | None, kind: Type) -> Bytes:
    """Rows [out, bytes] of Q8_0, Q4_0, Q5_0, Q4_1 or Q5_1 from codes [out, in] as ``unpack``
    gives them, scales and minima [out, in / 32], which are rounded to 16 bits."""
    bits, has_minimum, _ = _SIMPLE[kind]
    codes = codes.reshape(len(codes), -1, 32)  # [out, blocks, 32]
    parts = [_as_halves(scales)]
    if has_minimum and minima is not None:
        parts.append(_as_halves(minima))
    if bits == 5:
        parts.append(np.packbits(codes >> 4, axis=-1, bitorder="little"))
    parts.append(codes ^ _SIGN if bits == 8 else _together(codes & _LOW, 32))
    return np.concatenate(parts, axis=-1).reshape(len(codes), -1)


def pack_q4_k(codes: Bytes, d: Floats, small: Bytes, dmin: Floats, small_minima: Bytes) -> Bytes:
    """Rows [out, bytes] of Q4_K from codes [out, in], super-block scales ``d`` and ``dmin``
    [out, in / 256] and the six-bit numbers [out, in / 256, 8] they are multiplied by."""
    low_s, high_s = small[..., :4], small[..., 4:]
    low_m, high_m = small_minima[..., :4], small_minima[..., 4:]
    numbers = np.concatenate(
        [
            low_s | (high_s >> 4 << 6),
            low_m | (high_m >> 4 << 6),
            (high_s & 15) | (high_m & 15) << 4,
        ],
        axis=-1,
    )  # [out, in / 256, 12]
    halves = _together(codes.reshape(len(codes), -1, 256), 64)
    parts = [_as_halves(d), _as_halves(dmin), numbers, halves]
    return np.concatenate(parts, axis=-1).reshape(len(codes), -1)


def _unpack_q45_k(blocks: Bytes, kind: Type) -> QuantizedWeight:
    d, dmin, numbers = _halves(blocks, 0), _halves(blocks, 2), blocks[..., 4:16]
    first, second, third = numbers[..., :4], numbers[..., 4:8], numbers[..., 8:]
    small = np.concatenate([first & 63, (third & 15) | (first >> 6 << 4)], axis=-1)
    small_minima = np.concatenate([second & 63, (third >> 4) | (second >> 6 << 4)], axis=-1)
    codes = _low_first(blocks[..., -128:], 64)  # [out, blocks, 256]
    if kind == Type.Q5_K:  # byte l of 32 holds bit j for column 32 j + l
        shifts = np.arange(8, dtype=np.uint8)[:, None]
        high = blocks[..., 16:48][..., None, :] >> shifts & 1  # [out, blocks, 8, 32]
        codes |= high.reshape(codes.shape) << 4
    scales = d[..., None] * small.astype(np.float32)  # [out, blocks, 8]
    minima = -(dmin[..., None] * small_minima.astype(np.float32))
    return _weight(kind, codes, scales, minima, 0, 5 if kind == Type.Q5_K else 4)


def _unpack_q6_k(blocks: Bytes) -> QuantizedWeight:
    codes = _low_first(blocks[..., :128], 128)  # [out, blocks, 256]
    shifts = np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    high = blocks[..., 128:192].reshape(*blocks.shape[:2], 2, 1, 32) >> shifts & 3
    codes |= high.reshape(codes.shape) << 4
    small = blocks[..., 192:208].view(np.int8).astype(np.float32)  # [out, blocks, 16]
    return _weight(Type.Q6_K, codes, _halves(blocks, 208)[..., None] * small, None, 32, 6)


def _weight(
    kind: Type, codes: Bytes, scales: Floats, minima: Floats | None, zero: int, bits: int
) -> QuantizedWeight:
    """Blocks put side by side into rows; a minimum m also as the zero point -m / scale."""
    out = len(codes)
    codes, scales = codes.reshape(out, -1), scales.reshape(out, -1)
    if minima is None:
        zeros, exact = np.full_like(scales, zero), None
    else:
        minima = minima.reshape(out, -1)
        flat = scales == 0  # a block of one value, which no zero point of scale 0 could give
        codes = np.where(np.repeat(flat, codes.shape[1] // scales.shape[1], axis=1), 0, codes)
        scales = np.where(flat, np.float32(1), scales)
        zeros, exact = -minima / scales, torch.from_numpy(minima)
    group = codes.shape[1] // scales.shape[1]
    block, size = GGML_QUANT_SIZES[kind]
    spent = (8 * size - block * bits) * group / block  # bits of a block that are not codes
    return QuantizedWeight(
        torch.from_numpy(np.ascontiguousarray(codes)),
        torch.from_numpy(np.ascontiguousarray(scales)),
        torch.from_numpy(zeros),
        bits,
        group,
        minima=exact,
        group_bits=spent,
    )


def _halves(blocks: Bytes, at: int) -> Floats:
    """The 16-bit floats at byte ``at`` of each block, [out, blocks]."""
    found = np.ascontiguousarray(blocks[..., at : at + 2]).view(np.float16)
    return found[..., 0].astype(np.float32)


def _as_halves(values: Floats) -> Bytes:
    return values.astype(np.float16)[..., None].view(np.uint8)


def _low_first(packed: Bytes, run: int) -> Bytes:
    """Bytes [..., n] to four-bit codes [..., 2 n]: in each run of codes, low halves first."""
    pieces = packed.reshape(*packed.shape[:-1], -1, run // 2)
    codes = np.stack([pieces & _LOW, pieces >> 4], axis=-2)  # [..., runs, 2, run / 2]
    return codes.reshape(*packed.shape[:-1], -1)


def _together(codes: Bytes, run: int) -> Bytes:
    """The inverse of ``_low_first``."""
    pieces = codes.reshape(*codes.shape[:-1], -1, 2, run // 2)
    packed = pieces[..., 0, :] | pieces[..., 1, :] << np.uint8(4)
    return packed.reshape(*codes.shape[:-1], -1)
