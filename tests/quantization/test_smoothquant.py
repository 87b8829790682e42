import copy

import torch

from llmwright.modeling import QuantizedLinear
from llmwright.quantization import QuantizationSettings, quantize, quantize_smoothquant
from llmwright.quantization.smoothquant import smoothing_factors


def test_factors_share_the_difficulty():
    weight = torch.tensor([[1.0, -4.0], [0.5, 2.0]])
    inputs = torch.tensor([[[16.0, 0.25]], [[-2.0, -1.0]]])
    # sqrt(16 / 1), sqrt(1 / 4)
    torch.testing.assert_close(smoothing_factors(weight, inputs, 0.5), torch.tensor([4.0, 0.5]))
    smoothed = inputs / smoothing_factors(weight, inputs, 0.5)
    heavier = weight * smoothing_factors(weight, inputs, 0.5)
    # At one half both sides end with the same largest values.
    torch.testing.assert_close(smoothed.abs().amax((0, 1)), heavier.abs().amax(0))
    torch.testing.assert_close(smoothing_factors(weight, inputs, 1.0), torch.tensor([16.0, 1.0]))


def test_smoothed_products_of_whole_numbers_are_nearer_than_without(decoder, token_ids):
    full = decoder(token_ids)
    rough = copy.deepcopy(decoder)
    quantize_smoothquant(decoder, token_ids)
    quantize_smoothquant(rough, token_ids, alpha=0.0)  # inputs as they are, up to weights' size
    error = (decoder(token_ids) - full).norm() / full.norm()
    assert error < 0.05
    assert error < (rough(token_ids) - full).norm() / full.norm()
    layer = decoder.model.layers[0].self_attn.q_proj
    assert isinstance(layer, QuantizedLinear) and layer.eight_bit_inputs


def test_it_is_one_of_the_methods(decoder, token_ids):
    other = copy.deepcopy(decoder)
    quantize_smoothquant(decoder, token_ids)
    quantize(other, QuantizationSettings("smoothquant"), token_ids)
    assert torch.equal(decoder(token_ids), other(token_ids))
