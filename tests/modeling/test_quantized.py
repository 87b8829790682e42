"""Layers over quantized weights against the matrix that the codes stand for."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_llama import SHAPES, TINY
from torch.nn import functional as F

from llmwright.core import InputError
from llmwright.modeling import (
    KVCache,
    QuantizedEmbedding,
    QuantizedLinear,
    QuantizedWeight,
    quantized_weights,
    random_decoder,
    replace_linears,
)


def random_weight(out, columns, bits=4, size=32, *, symmetric=False, shuffled=False, seed=0):
    draw = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**bits, (out, columns), generator=draw, dtype=torch.uint8)
    groups = -(-columns // size)
    scales = torch.rand(out, groups, generator=draw) * 0.02 + 0.001
    zeros = torch.rand(out, groups, generator=draw) * (2**bits - 1)
    if symmetric:
        zeros = torch.full_like(zeros, 2 ** (bits - 1))
    order = None
    if shuffled:
        order = (torch.arange(columns) // size)[torch.randperm(columns, generator=draw)]
    return QuantizedWeight(codes, scales, zeros, bits, size, order)


def error(layer, x):
    """Of the layer's output, relative to the largest of the exact ones."""
    weight = layer.quantized.dequantize(torch.float64)
    bias = None if layer.bias is None else layer.bias.double()
    exact = F.linear(x.double(), weight, bias)
    return float((layer(x).double() - exact).abs().max() / exact.abs().max())


WEIGHTS = {
    "four bits": random_weight(48, 128),
    "three bits, groups of 64": random_weight(32, 192, bits=3, size=64),
    "one group a row of 576": random_weight(16, 576, size=576),
    "groups of 128, the last one half": random_weight(16, 192, size=128),
    "columns out of order": random_weight(32, 128, shuffled=True),
    "rows that no kernel takes": random_weight(31, 64),
    "groups that no kernel takes": random_weight(32, 72, size=24),
    "eight bits a row": random_weight(40, 96, bits=8, size=96, symmetric=True),
    "eight bits a row, columns that the kernel would overrun": random_weight(
        97, 50, bits=8, size=50, symmetric=True
    ),
    "eight bits, not symmetric": random_weight(40, 96, bits=8, size=96),
    "eight bits in groups": random_weight(40, 96, bits=8, size=32, symmetric=True),
}
FAST = {
    "four bits", "three bits, groups of 64", "one group a row of 576",
    "groups of 128, the last one half", "columns out of order", "eight bits a row",
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_a_layer_computes_with_the_matrix_its_codes_stand_for(name, dtype, limit):
    weight = WEIGHTS[name]
    layer = QuantizedLinear(weight, torch.randn(weight.shape[0], dtype=dtype))
    for rows in (1, 2, 5, 33):
        x = torch.randn(rows, weight.shape[1]).to(dtype)
        assert error(layer, x) < limit
        assert layer(x).dtype == dtype
    assert layer(torch.randn(2, 3, weight.shape[1]).to(dtype)).shape == (2, 3, weight.shape[0])
    assert layer(torch.empty(0, weight.shape[1], dtype=dtype)).shape == (0, weight.shape[0])
    packed = layer._packed is not None
    assert packed == (dtype == torch.bfloat16 and name in FAST)


@pytest.mark.parametrize("name", sorted(FAST))
def test_a_packed_product_of_a_row_does_not_depend_on_the_rows_beside_it(name):
    layer = QuantizedLinear(WEIGHTS[name])
    x = torch.randn(37, layer.in_features).bfloat16()
    alone = torch.cat([layer(row[None]) for row in x])
    assert torch.equal(layer(x), alone)


def test_minima_are_used_by_the_packed_kernel():
    weight = random_weight(32, 64)
    shifted = QuantizedWeight(
        weight.codes, weight.scales, weight.zeros, 4, 32, minima=torch.randn(32, 2)
    )
    layer = QuantizedLinear(shifted)
    assert error(layer, torch.randn(3, 64).bfloat16()) < 1e-2
    assert layer._packed is not None


def test_a_codebook_names_values():
    codebook = torch.linspace(-1, 1, 16)
    weight = random_weight(32, 64)
    named = QuantizedWeight(weight.codes, weight.scales, weight.zeros, 4, 32, codebook=codebook)
    expected = codebook[weight.codes.long()] * weight.scales.repeat_interleave(32, 1)
    assert torch.equal(named.dequantize(), expected)
    assert error(QuantizedLinear(named), torch.randn(3, 64).bfloat16()) < 1e-2


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.sampled_from([32, 64, 96, 128, 384]))
def test_any_groups_give_the_same_product(seed, bits, size):
    weight = random_weight(16, 384, bits, size, shuffled=seed % 2 == 0, seed=seed % 1000)
    x = torch.randn(2, 384, generator=torch.Generator().manual_seed(seed)).bfloat16()
    assert error(QuantizedLinear(weight), x) < 1e-2


def test_gradients_flow_through_to_the_input():
    layer = QuantizedLinear(WEIGHTS["four bits"])
    x = torch.randn(2, 128).bfloat16().requires_grad_()
    layer(x).sum().backward()
    expected = layer.quantized.dequantize().sum(0).expand(2, -1)
    torch.testing.assert_close(x.grad.float(), expected, atol=0.02, rtol=0.02)


def test_inputs_of_eight_bits_are_rounded_each_token_by_its_own_scale():
    weight = random_weight(24, 80, bits=8, size=80, symmetric=True)
    layer = QuantizedLinear(weight, torch.randn(24), eight_bit_inputs=True)
    x = torch.randn(6, 80) * torch.tensor([1e-3, 1.0, 50.0, 1.0, 0.0, 7.0])[:, None]
    step = x.abs().amax(-1, keepdim=True).double() / 127
    rounded = torch.where(step > 0, (x.double() / step).round() * step, 0)
    expected = rounded @ weight.dequantize(torch.float64).T + layer.bias.double()
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="symmetric"):
        QuantizedLinear(WEIGHTS["four bits"], eight_bit_inputs=True)


def test_bits_are_counted_with_scales_and_order():
    weight = QuantizedWeight(
        torch.zeros(8, 256, dtype=torch.uint8), torch.ones(8, 2), torch.zeros(8, 2), 4, 128,
        group_bits=20,
    )  # fmt: skip
    assert weight.stored_bits / weight.codes.numel() == 4 + 20 / 128  # the guide's 4.16
    assert random_weight(8, 64, shuffled=True).stored_bits == 8 * 64 * 4 + 8 * 2 * 16 + 64 * 32


@pytest.mark.parametrize("shape", SHAPES)
def test_a_decoder_with_quantized_weights_is_the_decoder_with_what_they_stand_for(shape):
    decoder = random_decoder(SHAPES[shape])
    names = [n for n, m in decoder.named_modules() if isinstance(m, torch.nn.Linear)]
    for name, parameter in decoder.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    weights = {
        name: random_weight(*decoder.get_submodule(name).weight.shape, size=16, seed=n)
        for n, name in enumerate(names)
    }
    plain = copy.deepcopy(decoder)
    for name, weight in weights.items():
        plain.get_submodule(name).weight.data = weight.dequantize()
    tied = SHAPES[shape].tie_word_embeddings
    if tied:
        plain.model.embed_tokens.weight.data = weights["lm_head"].dequantize()
    replace_linears(decoder, weights)
    ids = torch.randint(0, 97, (2, 9))
    torch.testing.assert_close(decoder(ids), plain(ids), rtol=1e-4, atol=1e-4)
    assert isinstance(decoder.model.embed_tokens, QuantizedEmbedding) == tied
    assert decoder.dtype == torch.float32 and decoder.device.type == "cpu"
    again = quantized_weights(decoder)
    assert {n: again[n] is w for n, w in weights.items()} == dict.fromkeys(weights, True)
    if tied:
        assert again["model.embed_tokens"] is again["lm_head"]
    cache = KVCache(decoder.config, decoder.dtype)
    parts = [decoder(part, cache.positions(part.shape[1]), cache) for part in ids[:1].split(4, 1)]
    torch.testing.assert_close(torch.cat(parts, 1), plain(ids[:1]), rtol=1e-4, atol=1e-4)


def test_casting_a_decoder_leaves_codes_and_scales_as_they_are():
    decoder = random_decoder(SHAPES["tied"])
    replace_linears(decoder, {"lm_head": random_weight(97, 48, size=16)})
    decoder.to(torch.bfloat16)
    assert decoder.dtype == torch.bfloat16
    assert decoder.model.embed_tokens(torch.tensor([1])).dtype == torch.bfloat16
    assert decoder.lm_head.quantized.scales.dtype == torch.float32
    assert decoder(torch.tensor([[1, 2]])).shape == (1, 2, 97)


def test_wrong_names_and_shapes_are_named_and_change_nothing():
    decoder = random_decoder(TINY)
    good = random_weight(97, 48, size=16)
    with pytest.raises(InputError, match=r"no linear layer 'model\.norm'"):
        replace_linears(decoder, {"lm_head": good, "model.norm": good})
    with pytest.raises(InputError, match=r"\[97, 48\], and the layer's is \[60, 48\]"):
        replace_linears(decoder, {"lm_head": good, "model.layers.0.self_attn.q_proj": good})
    assert quantized_weights(decoder) == {}
