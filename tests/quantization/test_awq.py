import copy

import pytest
import torch

from llmwright.quantization import QuantizationSettings, Scheme, quantize, quantize_awq
from llmwright.quantization.awq import channel_factors, clipped
from llmwright.quantization.rtn import round_to_nearest
from llmwright.quantization.walk import walk

SCHEME = Scheme(4, 16)


def test_the_factor_of_least_harm_is_found_and_weights_are_put_back(decoder, token_ids):
    for group in walk(decoder, token_ids, "test"):
        kept = [linear.weight.clone() for linear in group.linears]
        with torch.no_grad():
            got = channel_factors(group, SCHEME)
        assert all(
            torch.equal(linear.weight, w) for linear, w in zip(group.linears, kept, strict=True)
        )
        inputs = group.inputs[:2]
        wanted = group.block(inputs)
        mean = group.inputs.abs().mean((0, 1))
        losses = {}
        for step in range(20):
            s = mean ** (step / 20)
            s = s / (s.max() * s.min()).sqrt()
            with torch.no_grad():
                for linear, w in zip(group.linears, kept, strict=True):
                    linear.weight.copy_(round_to_nearest(w * s, SCHEME).dequantize() / s)
            losses[step] = (float((group.block(inputs) - wanted).square().mean()), s)
            with torch.no_grad():
                for linear, w in zip(group.linears, kept, strict=True):
                    linear.weight.copy_(w)
        torch.testing.assert_close(got, min(losses.values(), key=lambda pair: pair[0])[1])


@pytest.mark.parametrize("scheme", [Scheme(3, 16), Scheme(4, 0, symmetric=True), Scheme(3, 20)])
def test_clips_do_least_harm_group_by_group(scheme):
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(5, 48, generator=draw) ** 3
    x = torch.randn(100, 48, generator=draw)
    got = clipped(weight, x, scheme)
    width = scheme.group_size or 48
    for row in range(5):
        for start in range(0, 48, width):
            part, seen = weight[row, start : start + width], x[:, start : start + width]
            trials = []
            for step in range(10):
                limit = part.abs().max() * (1 - step / 20)
                trial = part.clamp(-limit, limit)
                rounded = round_to_nearest(trial[None], Scheme(scheme.bits, 0, scheme.symmetric))
                harm = (seen @ (rounded.dequantize()[0] - part)).square().sum()
                trials.append((float(harm), trial))
            expected = min(trials, key=lambda pair: pair[0])[1]
            torch.testing.assert_close(got[row, start : start + width], expected)


@pytest.mark.parametrize("clip", [True, False])
def test_a_model_comes_nearer_to_the_full_one_than_by_rounding(decoder, token_ids, clip):
    full = decoder(token_ids)
    plain, again = copy.deepcopy(decoder), copy.deepcopy(decoder)
    quantize_awq(decoder, token_ids, SCHEME, clip=clip)
    quantize(plain, QuantizationSettings("rtn", SCHEME))
    error = (decoder(token_ids) - full).square().mean()
    assert error < 0.8 * (plain(token_ids) - full).square().mean()
    quantize_awq(again, token_ids, SCHEME, clip=clip)
    assert torch.equal(again(token_ids), decoder(token_ids))


def test_codes_are_the_nearest_of_the_folded_weights(decoder, token_ids, monkeypatch):
    """With a quantizer that changes nothing, AWQ leaves a model that computes the same: every
    factor that went into a weight came out somewhere else, up_proj's rows included."""
    full = decoder(token_ids)
    norms = decoder.model.layers[0].input_layernorm.weight.clone()
    quantize_awq(decoder, token_ids, Scheme(8, 8), clip=False)
    assert not torch.allclose(decoder.model.layers[0].input_layernorm.weight, norms)
    change = (decoder(token_ids) - full).norm() / full.norm()
    assert change < 0.02
