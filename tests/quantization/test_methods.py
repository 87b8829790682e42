import copy
from dataclasses import replace

import pytest
import torch

from llmwright.core import ConfigurationError, InputError
from llmwright.modeling import QuantizedEmbedding, quantized_weights, random_decoder
from llmwright.quantization import (
    CALIBRATED,
    QuantizationSettings,
    Scheme,
    quantize,
    round_to_nearest,
)


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq", "nf4", "smoothquant"])
def test_every_method_leaves_a_model_near_the_full_one(decoder, token_ids, method):
    full = decoder(token_ids)
    settings = QuantizationSettings(method, Scheme(4, 16), head_bits=8)
    blocks = token_ids if method in CALIBRATED else None
    other = copy.deepcopy(decoder)
    if method in CALIBRATED:
        with pytest.raises(ConfigurationError, match="looks at data and was given none"):
            quantize(decoder, settings)
        assert not quantized_weights(decoder)
    quantize(decoder, settings, blocks)
    assert len(quantized_weights(decoder)) == 2 * 7 + 2
    assert isinstance(decoder.model.embed_tokens, QuantizedEmbedding)
    assert (decoder(token_ids) - full).norm() < 0.4 * full.norm()
    torch.manual_seed(1)  # nothing may depend on it
    quantize(other, settings, blocks)
    assert torch.equal(other(token_ids), decoder(token_ids))


def test_the_vocabulary_keeps_its_bits_unless_told(decoder):
    quantize(decoder, QuantizationSettings("rtn", Scheme(4, 16)))
    assert "lm_head" not in quantized_weights(decoder)
    with pytest.raises(InputError, match="quantized already; start from the unquantized"):
        quantize(decoder, QuantizationSettings("rtn"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"method": "int8"}, r"method: 'int8' is not handled.*use rtn, gptq, awq, nf4, smoothq"),
        ({"act_order": "yes"}, r"act_order: 'yes' is not handled.*use none, static, moved"),
        ({"head_bits": 3}, r"head_bits: 3 is not handled.*use 4, 8, 16"),
    ],
)
def test_settings_that_are_not_handled(wrong, says):
    with pytest.raises(ConfigurationError, match=says):
        QuantizationSettings(**wrong)


@pytest.mark.parametrize("tied", [True, False])
def test_the_vocabulary_in_four_and_eight_bits(decoder, tied):
    config = replace(decoder.config, tie_word_embeddings=tied)
    for bits, groups in ((4, 3), (8, 1)):
        model = random_decoder(config, seed=1)
        head, embedding = (
            model.get_submodule(name).weight.detach().clone()
            for name in ("lm_head", "model.embed_tokens")
        )
        quantize(model, QuantizationSettings("rtn", Scheme(3, 16, symmetric=True), head_bits=bits))
        weights = quantized_weights(model)
        assert {weights[f"model.layers.{n}.mlp.up_proj"].bits for n in (0, 1)} == {3}
        scheme = Scheme(4, 16, symmetric=True) if bits == 4 else Scheme(8, 0, symmetric=True)
        for name, whole in (("lm_head", head), ("model.embed_tokens", embedding)):
            assert (weights[name].bits, weights[name].scales.shape[1]) == (bits, groups)
            assert torch.equal(weights[name].codes, round_to_nearest(whole, scheme).codes)
        assert (weights["lm_head"] is weights["model.embed_tokens"]) == tied
