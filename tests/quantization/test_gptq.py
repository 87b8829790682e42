"""GPTQ against Optimal Brain Quantization done the long way, by an inverse for each column."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError
from llmwright.quantization import Scheme, quantize_gptq, round_to_nearest
from llmwright.quantization.gptq import round_by_gptq
from llmwright.quantization.rtn import fit_grid, to_codes


def problem(out=4, columns=40, tokens=200, seed=0):
    """Weights and inputs whose channels go together, some far larger than others."""
    draw = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=draw) / columns**0.5 + 0.3 * torch.eye(columns)
    spread = torch.exp(0.4 * torch.randn(columns, generator=draw))
    x = torch.randn(tokens, columns, generator=draw) @ mix * spread
    return torch.randn(out, columns, generator=draw), x


def slowly(weight, x, scheme, act_order, damping=0.01):
    """The matrix that OBQ's own equations give, float64, without Cholesky, blocks or views."""
    w = weight.double().clone()
    columns = w.shape[1]
    h = (x.T @ x).double()
    h += damping * h.diagonal().mean() * torch.eye(columns, dtype=torch.float64)
    size = scheme.group_size or columns
    order = list(range(columns))
    if act_order != "none":
        diagonal = (x.T @ x).diagonal()
        order = sorted(order, key=lambda i: -float(diagonal[i]))
    static = [fit_grid(weight[:, g : g + size], scheme) for g in range(0, columns, size)]
    result = torch.zeros_like(w)
    grid = None
    for step, column in enumerate(order):
        if act_order == "static":
            grid = static[column // size]
        elif step % size == 0:
            grid = fit_grid(w[:, order[step : step + size]].float(), scheme)
        scales, zeros = grid
        codes = to_codes(w[:, column].float(), scales, zeros, scheme)
        result[:, column] = ((codes - zeros) * scales).double()
        free = order[step:]
        inverse = torch.linalg.inv(h[free][:, free])
        error = (w[:, column] - result[:, column]) / inverse[0, 0]
        w[:, free] -= torch.outer(error, inverse[0])
    return result


def harm(weight, quantized, x):
    return float((x @ (weight - quantized).T).square().sum())


@pytest.mark.parametrize("act_order", ["none", "static", "moved"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    ("columns", "size"),
    [(40, 0), (40, 8), (40, 16), (200, 64), (200, 96), (260, 200), (150, 0), (140, 7)],
)
def test_it_gives_what_optimal_brain_quantization_gives(columns, size, symmetric, act_order):
    weight, x = problem(3, columns, 2 * columns, seed=columns + size)
    scheme = Scheme(4, size, symmetric)
    got = round_by_gptq(weight, x.T @ x, scheme, act_order=act_order)
    expected = slowly(weight, x, scheme, act_order)
    different = (got.dequantize().double() - expected).abs() > 1e-4
    # In single precision a weight that lies between two codes may fall to the other side, and
    # its row then goes another way from there: allowed in one row, with no more harm done.
    assert int(different.any(1).sum()) <= 1
    assert harm(weight, got.dequantize(), x) < 1.1 * harm(weight, expected.float(), x)


@pytest.mark.parametrize("act_order", ["none", "static", "moved"])
@pytest.mark.parametrize("size", [0, 8, 16])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_outputs_change_less_than_by_rounding_to_nearest(bits, size, act_order):
    scheme = Scheme(bits, size)
    for seed in range(3):
        weight, x = problem(16, 48, 400, seed)
        plain = harm(weight, round_to_nearest(weight, scheme).dequantize(), x)
        got = round_by_gptq(weight, x.T @ x, scheme, act_order=act_order)
        assert harm(weight, got.dequantize(), x) < 0.8 * plain


@given(st.integers(0, 10_000), st.sampled_from([0, 8]))
def test_inputs_that_do_not_go_together_make_it_rounding_to_nearest(seed, size):
    weight, _ = problem(3, 24, seed=seed)
    hessian = torch.diag(torch.rand(24, generator=torch.Generator().manual_seed(seed)) + 0.1)
    got = round_by_gptq(weight, hessian, Scheme(4, size), act_order="static")
    assert torch.equal(got.codes, round_to_nearest(weight, Scheme(4, size)).codes)


def test_columns_that_are_never_used_become_zero():
    weight, x = problem()
    x[:, [3, 30]] = 0
    got = round_by_gptq(weight, x.T @ x, Scheme(4, 8)).dequantize()
    assert not got[:, [3, 30]].any() and got[:, 4].any()


def test_moved_groups_are_named_and_static_ones_stand_in_order():
    weight, x = problem(columns=32)
    moved = round_by_gptq(weight, x.T @ x, Scheme(4, 8), act_order="moved")
    place = (x.T @ x).diagonal().argsort(descending=True, stable=True).argsort()
    assert torch.equal(moved.group, place // 8)
    assert round_by_gptq(weight, x.T @ x, Scheme(4, 8), act_order="static").group is None


def test_a_hessian_without_an_inverse_is_an_error_with_its_cure():
    weight, x = problem(columns=40, tokens=5)
    with pytest.raises(ConfigurationError, match="raise the damping"):
        round_by_gptq(weight, -(x.T @ x), Scheme(4, 8))


@pytest.mark.parametrize("act_order", ["none", "static", "moved"])
def test_a_model_comes_nearer_to_the_full_one_than_by_rounding(decoder, token_ids, act_order):
    from llmwright.quantization import QuantizationSettings, quantize

    full = decoder(token_ids)
    plain, again = copy.deepcopy(decoder), copy.deepcopy(decoder)
    scheme = Scheme(4, 16)
    quantize_gptq(decoder, token_ids, scheme, act_order=act_order)
    quantize(plain, QuantizationSettings("rtn", scheme))
    error = (decoder(token_ids) - full).square().mean()
    assert error < 0.8 * (plain(token_ids) - full).square().mean()
    quantize_gptq(again, token_ids, scheme, act_order=act_order)
    assert torch.equal(again(token_ids), decoder(token_ids))
