"""Which forms matrices are packed in, which become one, and how many bytes that takes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from native_models import GROUPED, decoder_of, quantized_decoder, rounded
from torch import nn

from llmwright.core import ConfigurationError
from llmwright.inference.native import NativeRunner, packed_bytes
from llmwright.inference.native.layout import BF16, F32, INT4, INT8
from llmwright.inference.native.packing import Arena, pack_linear
from llmwright.modeling import QuantizedLinear

BF = torch.bfloat16


def coded(out, bits, group, seed=0, halves=True, **how):
    weight = torch.randn(out, 64, generator=torch.Generator().manual_seed(seed))
    made = rounded(weight, bits, group, **how)
    if halves:
        made = replace(made, scales=made.scales.half().float())
    return QuantizedLinear(made)


def parts(linear):
    return [linear.parts[n] for n in range(linear.count)]


def test_matrices_of_one_form_become_one():
    arena = Arena()
    layers = [nn.Linear(48, 10, bias=False), nn.Linear(48, 7), nn.Linear(48, 3)]
    linear = pack_linear(layers, arena, dtype=torch.float32)
    (matrix,) = parts(linear)
    assert (matrix.kind, matrix.n, matrix.k, matrix.column) == (F32, 20, 64, 0)
    assert (linear.k, linear.width, linear.forms, linear.perm) == (64, 20, 1 << F32, None)
    assert matrix.bias and matrix.codes % 64 == matrix.bias % 64 == 0
    (matrix,) = parts(pack_linear(layers[:1], arena, dtype=BF))
    assert (matrix.kind, matrix.bias, matrix.scales) == (BF16, None, None)


def test_other_forms_stand_side_by_side():
    arena = Arena()
    layers = [coded(6, 4, 32, symmetric=True), coded(5, 8, 0, symmetric=True), nn.Linear(64, 4)]
    linear = pack_linear(layers, arena, dtype=BF)
    four, eight, plain = parts(linear)
    assert (linear.width, linear.forms) == (15, 1 << INT4 | 1 << INT8 | 1 << BF16)
    assert (four.kind, four.n, four.group, four.column) == (INT4, 6, 1, 0)
    assert (eight.kind, eight.n, eight.group, eight.column) == (INT8, 5, 2, 6)
    assert (plain.kind, plain.n, plain.column) == (BF16, 4, 11)
    assert (four.zero, four.offsets) == (8, None)  # one whole number for the whole matrix
    assert (eight.zero, eight.offsets) == (128, None)
    assert four.half_scales and eight.half_scales


@pytest.mark.parametrize(("bits", "kind"), [(3, INT4), (4, INT4), (5, INT8), (8, INT8)])
def test_codes_of_more_than_four_bits_take_a_byte(bits, kind):
    (matrix,) = parts(pack_linear([coded(6, bits, 32)], Arena(), dtype=BF))
    assert matrix.kind == kind


@pytest.mark.parametrize("bits", [4, 8])
def test_zero_points_of_their_own_become_offsets(bits):
    (matrix,) = parts(pack_linear([coded(6, bits, 32)], Arena(), dtype=BF))
    assert matrix.offsets and not matrix.half_scales  # a product that no half holds
    (matrix,) = parts(pack_linear([coded(6, bits, 32, halves=False)], Arena(), dtype=BF))
    assert not matrix.half_scales
    layer = coded(6, bits, 32)
    minima = (-layer.quantized.zeros * layer.quantized.scales).half().float()
    layer.quantized = replace(layer.quantized, minima=minima)
    (matrix,) = parts(pack_linear([layer], Arena(), dtype=BF))
    assert matrix.offsets and matrix.half_scales
    whole = coded(6, bits, 32, symmetric=True)
    whole.quantized.zeros[2, 1] += 1  # one group is not as the others
    (matrix,) = parts(pack_linear([whole], Arena(), dtype=BF))
    assert matrix.offsets


def test_an_order_of_columns_holds_for_all_of_an_input():
    ordered, same = coded(6, 4, 32, order=3), coded(4, 4, 32, seed=1, order=3)
    linear = pack_linear([ordered, same], Arena(), dtype=BF)
    assert [m.n for m in parts(linear)] == [10]
    assert linear.perm
    other = coded(4, 4, 32, order=5)
    linear = pack_linear([ordered, other, coded(3, 4, 32)], Arena(), dtype=BF)
    assert [(m.kind, m.n) for m in parts(linear)] == [(INT4, 6), (BF16, 7)]
    in_order = coded(6, 4, 32)
    in_order.quantized = replace(in_order.quantized, group=torch.arange(64) // 32)
    linear = pack_linear([in_order, coded(4, 4, 32, seed=1)], Arena(), dtype=BF)
    assert linear.perm is None and [(m.kind, m.n) for m in parts(linear)] == [(INT4, 10)]


@pytest.mark.parametrize("group, kind", [(16, BF16), (32, INT4), (48, BF16), (64, INT4), (0, INT4)])
def test_groups_of_whole_blocks_only(group, kind):
    (matrix,) = parts(pack_linear([coded(6, 4, group)], Arena(), dtype=BF))
    assert matrix.kind == kind


def test_what_is_no_linear_layer_is_refused():
    with pytest.raises(ConfigurationError, match="Conv1d is no layer that the native runner"):
        pack_linear([nn.Conv1d(3, 3, 1)], Arena(), dtype=BF)


def test_the_arena_keeps_values_apart_on_borders_of_64_bytes():
    arena = Arena()
    values = [torch.arange(n, dtype=torch.int32) for n in (3, 16, 17, 1)]
    places = [arena.keep(each) for each in values]
    assert all(place % 64 == 0 for place in places)
    assert [b - a for a, b in itertools.pairwise(places)] == [64, 64, 128]
    assert arena.bytes == 4 * 37 and len(arena.kept) == 1
    big = torch.arange(1 << 24, dtype=torch.int32)  # as large as a chunk
    place = arena.keep(big)
    assert place % 64 == 0 and len(arena.kept) == 2
    assert arena.keep(values[0]) % 64 == 0 and len(arena.kept) == 3
    skip = place - arena.kept[1].data_ptr()
    kept = arena.kept[1][skip : skip + big.nbytes].view(torch.int32)
    assert torch.equal(kept, big)


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8", "int4"])
def test_the_bytes_are_known_from_above_before_anything_is_packed(form):
    decoder = decoder_of(form)
    taken = NativeRunner(decoder, 1).weight_bytes
    assert taken <= packed_bytes(decoder) + 64 * 1024  # outputs are rounded up to whole panels
    bits = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 4}[form]
    matrices = sum(
        module.weight.numel() if isinstance(module, nn.Linear) else module.quantized.codes.numel()
        for module in decoder.modules()
        if isinstance(module, nn.Linear | QuantizedLinear)
    )
    norms = 4 * GROUPED.hidden_size * (2 * GROUPED.num_hidden_layers + 1)
    least = matrices * bits // 8 + norms
    assert least <= packed_bytes(decoder) <= 1.3 * least
    assert least <= taken


def test_groups_that_are_dequantized_are_counted_in_the_models_type():
    decoder = quantized_decoder(GROUPED, 4, 48)
    assert packed_bytes(decoder) > 3 * packed_bytes(quantized_decoder(GROUPED, 4, 32))
