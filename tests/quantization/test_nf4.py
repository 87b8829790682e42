import torch
from hypothesis import given
from hypothesis import strategies as st

from llmwright.quantization import round_to_nf4
from llmwright.quantization.nf4 import double_quantized, nf4_levels

# Appendix E of the QLoRA paper, which is also the table in bitsandbytes' kernels.
TABLE = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
]  # fmt: skip


def test_the_levels_are_the_papers():
    torch.testing.assert_close(nf4_levels(), torch.tensor(TABLE), rtol=0, atol=2e-7)


@given(st.integers(0, 10_000), st.sampled_from([64, 128, 100]))
def test_every_weight_gets_the_nearest_level_of_its_group(seed, columns):
    w = torch.randn(5, columns, generator=torch.Generator().manual_seed(seed))
    got = round_to_nf4(w)
    scales = got.scales.repeat_interleave(64, 1)[:, :columns]
    least = (torch.tensor(TABLE)[:, None, None] * scales - w).abs().amin(0)
    torch.testing.assert_close((got.dequantize() - w).abs(), least, rtol=1e-4, atol=1e-6)
    largest = [w[:, start : start + 64].abs().amax(1) for start in range(0, columns, 64)]
    assert torch.equal(got.scales, double_quantized(torch.stack(largest, 1)))


def test_bits_a_weight():
    w = torch.randn(64, 256)
    assert round(round_to_nf4(w).stored_bits / w.numel(), 3) == 4.127


def test_scales_in_eight_bits_stay_close():
    scales = torch.rand(40, 24) * 0.1 + 0.05
    back = double_quantized(scales)
    # e4m3 has three bits of fraction: 1/16 of the distance to the mean, at most.
    distance = (scales - scales.mean()).abs()
    assert bool(((back - scales).abs() <= distance / 16 + 1e-4).all())
    assert not torch.equal(back, scales)
    # Each 256 scales in a row have a second scale of their own.
    far = torch.cat((torch.full((1, 256), 1e-3), torch.full((1, 256), 9.0)), 1)
    torch.testing.assert_close(double_quantized(far), far, rtol=1e-3, atol=1e-6)


def test_blocks_of_zeros_stay_zero():
    assert not round_to_nf4(torch.zeros(2, 128)).dequantize().any()
