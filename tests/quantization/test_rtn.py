import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError
from llmwright.quantization import Scheme, round_to_nearest

SCHEMES = st.builds(Scheme, st.integers(2, 8), st.sampled_from([0, 8, 16, 24, 64]), st.booleans())


def matrix(seed, out=6, columns=48):
    return torch.randn(out, columns, generator=torch.Generator().manual_seed(seed)) * 0.1


@given(SCHEMES, st.integers(0, 10_000))
def test_every_weight_gets_the_nearest_code(scheme, seed):
    w = matrix(seed)
    got = round_to_nearest(w, scheme)
    # By trying every code of the group's grid.
    values = torch.arange(2**scheme.bits)[:, None, None]
    width = got.group_size
    scales, zeros = (x.repeat_interleave(width, 1)[:, :48] for x in (got.scales, got.zeros))
    least = ((values - zeros) * scales - w).abs().amin(0)
    torch.testing.assert_close((got.dequantize() - w).abs(), least, rtol=1e-4, atol=1e-6)
    # And the grid reaches far enough: half a step, plus what rounding the scale to half costs.
    assert bool((least <= scales * (0.5 + 2**scheme.bits * 2**-11)).all())


@given(SCHEMES, st.integers(0, 10_000))
def test_pytorchs_own_fake_quantization_agrees(scheme, seed):
    w = matrix(seed)
    got = round_to_nearest(w, Scheme(scheme.bits, 0, scheme.symmetric))
    expected = torch.fake_quantize_per_channel_affine(
        w, got.scales[:, 0], got.zeros[:, 0].int(), 0, 0, 2**scheme.bits - 1
    )
    torch.testing.assert_close(got.dequantize(), expected)


@given(st.integers(2, 8), st.integers(0, 10_000))
def test_what_lies_on_a_symmetric_grid_stays(bits, seed):
    once = round_to_nearest(matrix(seed), Scheme(bits, 16, symmetric=True)).dequantize()
    assert torch.equal(round_to_nearest(once, Scheme(bits, 16, symmetric=True)).dequantize(), once)


def test_the_guides_formulas_by_hand():
    w = torch.tensor([[-0.5, 1.0, 3.5, 0.0]])
    symmetric = round_to_nearest(w, Scheme(4, 0, symmetric=True))
    assert float(symmetric.scales) == 0.5  # 3.5 / 7
    assert symmetric.codes.tolist() == [[7, 10, 15, 8]]
    w = torch.tensor([[-2.0, 1.0, 5.5, 0.0]])
    asymmetric = round_to_nearest(w, Scheme(4, 0))
    assert (float(asymmetric.scales), float(asymmetric.zeros)) == (0.5, 4.0)
    assert asymmetric.codes.tolist() == [[0, 6, 15, 4]]
    # All weights above zero: the grid holds zero all the same.
    assert float(round_to_nearest(torch.tensor([[3.0, 7.5]]), Scheme(4, 0)).zeros) == 0.0


def test_a_group_of_zeros_stays_zero_and_groups_do_not_mix():
    w = torch.cat((torch.zeros(2, 8), torch.full((2, 8), 1e-3), torch.full((2, 4), 100.0)), 1)
    for symmetric in (True, False):
        got = round_to_nearest(w, Scheme(4, 8, symmetric)).dequantize()
        torch.testing.assert_close(got, w, rtol=1e-3, atol=0)


def test_bits_a_weight():
    w = torch.zeros(4, 256)
    for scheme, bits in (
        (Scheme(4, 128), 4.15625),  # the guide's: a scale of 16 bits and a zero point of 4
        (Scheme(4, 128, symmetric=True), 4.125),
        (Scheme(8, 0, symmetric=True), 8 + 16 / 256),
    ):
        assert round_to_nearest(w, scheme).stored_bits / w.numel() == bits


def test_the_bounds_of_a_scheme():
    for bits in (2, 8):
        assert Scheme(bits).highest == 2**bits - 1
    for bits in (1, 9):
        with pytest.raises(ConfigurationError, match=f"^bits: {bits} bits are not handled"):
            Scheme(bits)
    with pytest.raises(
        ConfigurationError, match=r"^group_size: a group has no negative size.*use 0 f"
    ):
        Scheme(group_size=-1)
    assert (Scheme(), Scheme(3).group_bits) == (Scheme(4, 64, False), 19.0)
    assert [Scheme(4, size).width(48) for size in (0, 1, 47, 48, 64)] == [48, 1, 47, 48, 48]
