"""GGUF blocks taken apart, against the gguf package's own dequantizer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, quants
from gguf import GGMLQuantizationType as Type

from llmwright.modeling.gguf_blocks import UNPACKED, pack, unpack

# Where the 16-bit numbers of a block stand.
HALVES = {
    Type.Q8_0: [0],
    Type.Q4_0: [0],
    Type.Q5_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_1: [0, 2],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
}
BITS_A_WEIGHT = {
    Type.Q8_0: 8.5,
    Type.Q4_0: 4.5,
    Type.Q5_0: 5.5,
    Type.Q4_1: 5.0,
    Type.Q5_1: 6.0,
    Type.Q4_K: 4.5,
    Type.Q5_K: 5.5,
    Type.Q6_K: 6.5625,
}


def any_rows(kind: Type, seed: int = 0) -> np.ndarray:
    """Rows of any bits, with finite scales, of which some are zero."""
    size = GGML_QUANT_SIZES[kind][1]
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (7, 3, size), dtype=np.uint8)
    for place in HALVES[kind]:
        values = rng.normal(0, 1, data.shape[:2]).astype(np.float16)
        values[0, 0] = values[1, rng.integers(3)] = 0
        data[..., place : place + 2] = values[..., None].view(np.uint8)
    return data.reshape(7, -1)


def test_every_type_is_tried() -> None:
    assert set(HALVES) == UNPACKED


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", HALVES, ids=lambda kind: kind.name)
def test_exact_to_the_bit(kind: Type, seed: int) -> None:
    rows = any_rows(kind, seed)
    weight = unpack(rows, kind)
    expected = quants.dequantize(rows, kind)
    assert weight.dequantize().numpy().tobytes() == expected.tobytes()
    assert weight.codes.dtype == torch.uint8 and int(weight.codes.max()) < 2**weight.bits
    assert weight.stored_bits / weight.codes.numel() == BITS_A_WEIGHT[kind]


@pytest.mark.parametrize("kind", HALVES, ids=lambda kind: kind.name)
def test_zero_points_say_the_same_but_for_rounding(kind: Type) -> None:
    weight = unpack(any_rows(kind), kind)
    by_zero = (weight.codes.float() - weight._spread(weight.zeros)) * weight._spread(weight.scales)
    torch.testing.assert_close(by_zero, weight.dequantize(), atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize(
    "kind", [Type.Q8_0, Type.Q4_0, Type.Q5_0, Type.Q4_1], ids=lambda kind: kind.name
)
def test_packing_takes_back_unpacking(kind: Type) -> None:
    rows = any_rows(kind)[2:]  # without the blocks of scale zero, whose codes mean nothing
    weight = unpack(rows, kind)
    minima = None if weight.minima is None else weight.minima.numpy()
    assert (pack(weight.codes.numpy(), weight.scales.numpy(), minima, kind) == rows).all()
