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
    planes = codes.numpy()[..., None] >> np.arange(bits, dtype=np.uint8) & np.uint8(1)
    words = -(-n * bits // 32)
    flat = np.zeros((rows, words * 32), dtype=np.uint8)
    flat[:, : n * bits] = planes.reshape(rows, -1)
    return torch.from_numpy(np.packbits(flat, axis=1, bitorder="little").view("<i4"))


def unpack_bits(words: Tensor, bits: int, count: int) -> Tensor:
    """The first numbers of each row of ``words`` [rows, w] int32 -> [rows, count] uint8."""
    bytes_ = np.ascontiguousarray(words.numpy()).view(np.uint8)
    flat = np.unpackbits(bytes_, axis=1, count=count * bits, bitorder="little")
    planes = flat.reshape(len(words), count, bits) << np.arange(bits, dtype=np.uint8)
    return torch.from_numpy(planes.sum(-1, dtype=np.uint8))
