"""Choosing GGUF's codes, against the gguf package's quantizers and dequantizers."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, quants
from gguf import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmwright.core import ConfigurationError
from llmwright.modeling.gguf_rounding import quantize_rows

BLOCKWISE = [Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0]
ordinary = st.floats(-4, 4, width=32).map(lambda x: 0.0 if abs(x) < 1e-4 else x)
blocks = arrays(np.float32, (2, 64), elements=ordinary)


def weights(rows: int = 16, columns: int = 512, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (rows, columns)).astype(np.float32)


@pytest.mark.parametrize(
    "kind", [*BLOCKWISE, Type.F32, Type.F16, Type.BF16], ids=lambda kind: kind.name
)
def test_the_bytes_are_the_gguf_package_s(kind: Type) -> None:
    for values in (weights(), weights() * 1000, np.zeros((1, 64), np.float32), weights(3, 32)):
        expected = quants.quantize(values, kind).view(np.uint8).reshape(len(values), -1)
        assert (quantize_rows(values, kind) == expected).all()


@settings(max_examples=40)
@given(values=blocks, kind=st.sampled_from(BLOCKWISE))
def test_the_bytes_are_the_gguf_package_s_for_any_block(values: np.ndarray, kind: Type) -> None:
    assert (quantize_rows(values, kind) == quants.quantize(values, kind)).all()


def test_q8_0_rounds_halves_away_from_zero() -> None:
    values = np.zeros((1, 32), np.float32)
    values[0, :5] = [127, 0.5, -0.5, 1.5, 2.5]
    codes = quantize_rows(values, Type.Q8_0)[0, 2:].view(np.int8)
    assert codes[:5].tolist() == [127, 1, -1, 2, 3]


def test_q4_0_puts_the_largest_weight_on_the_code_without_a_mirror_image() -> None:
    values = np.linspace(-1, 1, 32, dtype=np.float32)[None] * [[1.0]]
    values[0, 3] = 2.0
    back = quants.dequantize(quantize_rows(values.astype(np.float32), Type.Q4_0), Type.Q4_0)
    assert back[0, 3] == 2.0 and back.min() == -1.0  # -8 steps of -1/4; at most 7 the other way


def rmse(values: np.ndarray, kind: Type) -> float:
    back = quants.dequantize(quantize_rows(values, kind), kind)
    return float(np.sqrt(np.mean((back - values) ** 2)))


def test_q4_k_is_finer_than_types_that_take_more_bits() -> None:
    values = weights(64, 1024)
    assert quantize_rows(values, Type.Q4_K).shape == (64, 4 * 144)
    assert rmse(values, Type.Q4_K) < 0.93 * rmse(values, Type.Q4_1)  # 5 bits a weight to 4.5
    assert rmse(values, Type.Q4_K) < 0.85 * rmse(values, Type.Q4_0)


def test_q4_k_finds_the_grid_that_weights_lie_on() -> None:
    rng = np.random.default_rng(1)
    small, low = rng.integers(32, 64, (5, 8, 1)), rng.integers(32, 64, (5, 8, 1))
    small[:, 0] = low[:, 0] = 63
    codes = rng.integers(0, 16, (5, 8, 32))
    codes[..., :2] = [0, 15]  # the ends are there, so that the grid can be seen
    values = (codes * small / 256 - low / 64).reshape(5, 256).astype(np.float32)
    back = quants.dequantize(quantize_rows(values, Type.Q4_K), Type.Q4_K)
    assert np.abs(back - values).max() < 1e-5


@settings(max_examples=25)
@given(values=arrays(np.float32, (1, 256), elements=ordinary))
def test_q4_k_misses_no_weight_by_more_than_its_grid(values: np.ndarray) -> None:
    back = quants.dequantize(quantize_rows(values, Type.Q4_K), Type.Q4_K)
    blocks = values.reshape(8, 32)
    width = blocks.max(1) - np.minimum(blocks.min(1), 0)
    # A step of the block, and half a step of six bits of the widest block, in scale and minimum.
    bound = width / 15 * 1.5 + (width.max() + np.abs(values).max()) * 16 / 15 / 63
    assert (np.abs(back - values).reshape(8, 32) <= bound[:, None] + 1e-6).all()


@pytest.mark.parametrize("kind", [*BLOCKWISE, Type.Q4_K, Type.F16, Type.BF16, Type.F32])
def test_weights_that_do_not_fit_are_refused(kind: Type) -> None:
    columns = GGML_QUANT_SIZES[kind][0]
    for bad in (np.nan, np.inf, -np.inf):
        values = weights(2, columns)
        values[1, 3 % columns] = bad
        with pytest.raises(ConfigurationError, match="not finite"):
            quantize_rows(values, kind)
    large = weights(2, columns) + np.float32(1e9)
    if kind in (Type.BF16, Type.F32):
        assert np.isfinite(quantize_rows(large, kind).view(np.uint16)).all()
    else:
        with pytest.raises(ConfigurationError, match="too large for 16 bits"):
            quantize_rows(large, kind)
