"""Choosing the codes of GGUF's types: rows of floats in, rows of bytes out.

Q8_0, Q4_0, Q4_1 and Q5_0 follow from each block of 32 directly, as in ggml::

    Q8_0  d = max |w| / 127               q = round(w / d), halves away from zero
    Q4_0  d = w* / -8,  |w*| largest      q = floor(w / d + 8.5), at most 15
    Q5_0  d = w* / -16                    q = floor(w / d + 16.5), at most 31
    Q4_1  d = (max - min) / 15, m = min   q = floor((w - m) / d + 0.5)

(The signed w* lands on code 0, the one without a mirror image, so that it is exact.) Q4_K looks
for the scale and minimum of each block of 32: for 21 trial scales it rounds, solves the weighted
least squares for the best line through the codes, and keeps the line with the smallest error

    sum_i a_i (s q_i - n - w_i)^2,        a_i = |w_i| + rms(w),      n >= 0

then rounds the eight scales and minima of a super-block to six bits of a common one, and codes
again with what was stored. This is ggml's search (Kawrakow, llama.cpp pull request 1684, 2023).

Rounding takes a few passes over the weights, Q4_K about 400: 0.2 s a million weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from gguf import quants
from gguf.constants import GGMLQuantizationType as Type

from llmwright.core import ConfigurationError
from llmwright.modeling.gguf_blocks import LARGEST_HALF, Bytes, Floats, pack, pack_q4_k

# Blocks that are worked on at a time: 8 MB of weights.
_PIECE = 1 << 16


def quantize_rows(values: Floats, kind: Type) -> Bytes:
    """Rows [out, bytes] of ``kind`` for ``values`` [out, in], where in is a multiple of its block.

    Raises ``ConfigurationError`` where a value is not finite or too large for the type.
    """
    plain = kind in (Type.F32, Type.BF16)
    # A scale is at least 1/128 of the largest weight.
    limit = 3.4e38 if plain else LARGEST_HALF if kind == Type.F16 else 128 * LARGEST_HALF
    _check(values, limit)
    if kind in (Type.F32, Type.F16, Type.BF16):
        data: Bytes = np.ascontiguousarray(quants.quantize(values, kind)).view(np.uint8)
        return data
    rows = max(1, _PIECE * 32 // values.shape[1])
    pieces = [_CHOOSE[kind](values[at : at + rows]) for at in range(0, len(values), rows)]
    return np.concatenate(pieces)


def _q8_0(values: Floats) -> Bytes:
    blocks = values.reshape(len(values), -1, 32)
    d = np.abs(blocks).max(-1) / np.float32(127)  # [out, blocks]
    scaled = blocks * _inverse(d)[..., None]
    # Not floor(x + 0.5): in single precision that takes 0.49999997 to 1.
    whole = np.trunc(scaled)
    whole += np.sign(scaled) * (np.abs(scaled - whole) >= 0.5)
    codes = (whole.astype(np.int16) + 128).astype(np.uint8)
    return _packed(values, codes, d, None, Type.Q8_0)


def _around_zero(values: Floats, half: int, kind: Type) -> Bytes:
    blocks = values.reshape(len(values), -1, 32)
    largest = np.abs(blocks).argmax(-1)[..., None]
    d = np.take_along_axis(blocks, largest, -1)[..., 0] / np.float32(-half)
    codes = blocks * _inverse(d)[..., None] + np.float32(half + 0.5)
    return _packed(values, _clipped(codes, 2 * half - 1), d, None, kind)


def _q4_1(values: Floats) -> Bytes:
    blocks = values.reshape(len(values), -1, 32)
    low = blocks.min(-1)
    d = (blocks.max(-1) - low) / np.float32(15)
    codes = (blocks - low[..., None]) * _inverse(d)[..., None] + np.float32(0.5)
    return _packed(values, _clipped(codes, 15), d, low, Type.Q4_1)


def _q4_k(values: Floats) -> Bytes:
    blocks = values.reshape(-1, 32)
    scales, minima = _best_lines(blocks)  # w = scale q - minimum
    d, small = _six_bits(scales.reshape(len(values), -1, 8))
    dmin, small_minima = _six_bits(minima.reshape(len(values), -1, 8))
    _check(d + dmin)
    step = (d[..., None] * small).reshape(-1, 1)  # as a reader computes them
    shift = (dmin[..., None] * small_minima).reshape(-1, 1)
    codes = np.rint((blocks + shift) * _inverse(step)).clip(0, 15).astype(np.uint8)
    return pack_q4_k(codes.reshape(len(values), -1), d, small, dmin, small_minima)


def _best_lines(blocks: Floats) -> tuple[Floats, Floats]:
    """Scale and minimum [n] for each of ``blocks`` [n, 32], minimum not negative."""
    weights = np.sqrt(np.mean(blocks**2, -1, keepdims=True)) + np.abs(blocks)
    total, first = weights.sum(-1), (weights * blocks).sum(-1)  # [n]

    def rounded(levels: float) -> Floats:  # codes [n, 32] for a scale of width / levels
        steps = np.float32(levels) * _inverse(high - low)
        codes: Floats = np.rint((blocks - low[:, None]) * steps[:, None]).clip(0, 15)
        return codes

    def error(codes: Floats, scale: Floats, low: Floats) -> Floats:
        total: Floats = (weights * (codes * scale[:, None] + low[:, None] - blocks) ** 2).sum(-1)
        return total

    high, low = blocks.max(-1), np.minimum(blocks.min(-1), 0)
    scale = (high - low) / np.float32(15)
    least = error(rounded(15), scale, low)
    for trial in range(21):  # each starts from the best minimum so far
        codes = rounded(14 + 0.1 * trial)
        weighted = weights * codes
        one, two = weighted.sum(-1), (weighted * codes).sum(-1)
        mixed = (weighted * blocks).sum(-1)
        determinant = np.maximum(total * two - one * one, 0)
        inverse = _inverse(determinant)
        s, m = (total * mixed - first * one) * inverse, (two * first - one * mixed) * inverse
        above = m > 0  # then the line goes through zero
        s, m = np.where(above, mixed * _inverse(two), s), np.where(above, 0, m)
        found = error(codes, s, m)
        better = (found < least) & (determinant > 0)
        scale, low = np.where(better, s, scale), np.where(better, m, low)
        least = np.where(better, found, least)
    return scale, 0 - low


def _six_bits(values: Floats) -> tuple[Floats, Bytes]:
    """``values`` [out, blocks, 8], not negative, as whole numbers to 63 times a scale [out,
    blocks], which is given as 16 bits will hold it."""
    largest = values.max(-1)
    with np.errstate(over="ignore"):
        d = (largest / np.float32(63)).astype(np.float16).astype(np.float32)
    numbers = np.rint(values * (63 * _inverse(largest))[..., None]).clip(0, 63)
    return d, numbers.astype(np.uint8)


def _packed(values: Floats, codes: Bytes, d: Floats, low: Floats | None, kind: Type) -> Bytes:
    _check(d if low is None else np.maximum(np.abs(d), np.abs(low)))
    return pack(codes.reshape(values.shape), d, low, kind)


def _check(values: Floats, limit: float = LARGEST_HALF) -> None:
    """That no value is beyond ``limit``, or no number at all."""
    if not (np.abs(values) <= limit).all():
        raise ConfigurationError(
            "has weights that are not finite, or too large for 16 bits",
            where="the model",
            fix="check how it was trained; BF16 and F32 hold large ones",
        )


def _inverse(values: Floats) -> Floats:
    """1 / x, and 0 where that is infinite."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / values
    return np.where(np.isinf(inverse), np.float32(0), inverse)


def _clipped(codes: Floats, top: int) -> Bytes:
    return codes.astype(np.uint8).clip(0, top)


_CHOOSE: dict[Type, Callable[[Floats], Bytes]] = {
    Type.Q8_0: _q8_0,
    Type.Q4_0: partial(_around_zero, half=8, kind=Type.Q4_0),
    Type.Q5_0: partial(_around_zero, half=16, kind=Type.Q5_0),
    Type.Q4_1: _q4_1,
    Type.Q4_K: _q4_k,
}
