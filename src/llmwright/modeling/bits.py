"""Small whole numbers packed into 32-bit words, the lowest bits first and none wasted.

Number i of a row takes the bits from ``i * bits`` on; where 32 is no multiple of ``bits``, it may
lie across two words. GPTQ, AWQ and compressed-tensors all pack so, along one axis or the other.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """``codes`` [rows, n] uint8 below ``2 ** bits`` -> [rows, ceil(n bits / 32)] int32."""
    rows, n = codes.shape
    # A code that lies within a byte goes there whole, any other one bit by bit.
    width = bits if 8 % bits == 0 else 1
    pieces = codes.numpy()[..., None] >> np.arange(0, bits, width, dtype=np.uint8)
    pieces &= np.uint8(2**width - 1)
    words = -(-n * bits // 32)
    flat = np.zeros((rows, words * 32 // width), dtype=np.uint8)
    flat[:, : n * bits // width] = pieces.reshape(rows, -1)
    lanes = flat.reshape(rows, words * 4, 8 // width)
    bytes_ = np.zeros((rows, words * 4), dtype=np.uint8)
    for place in range(8 // width):
        bytes_ |= lanes[..., place] << np.uint8(place * width)
    return torch.from_numpy(bytes_.view("<i4"))


def unpack_bits(words: Tensor, bits: int, count: int) -> Tensor:
    """The first numbers of each row of ``words`` [rows, w] int32 -> [rows, count] uint8."""
    bytes_ = np.ascontiguousarray(words.numpy()).view(np.uint8)
    width = bits if 8 % bits == 0 else 1
    lanes = bytes_[..., None] >> np.arange(0, 8, width, dtype=np.uint8)
    lanes &= np.uint8(2**width - 1)
    pieces = lanes.reshape(len(words), -1)[:, : count * bits // width]
    pieces = pieces.reshape(len(words), count, bits // width)
    codes = np.zeros((len(words), count), dtype=np.uint8)
    for place in range(bits // width):
        codes |= pieces[..., place] << np.uint8(place * width)
    return torch.from_numpy(codes)
