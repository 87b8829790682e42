import copy

import pytest
import torch

from llmwright.core import InputError
from llmwright.inference import perplexity
from llmwright.modeling import load_model
from llmwright.quantization import (
    Int8KV,
    Measurement,
    QuantizationSettings,
    Scheme,
    decode_speed,
    measure_model,
    quantize,
    reference,
)
from llmwright.quantization.measure import recommend, stored_size


@pytest.fixture(scope="module")
def model(tiny_model_path):
    return load_model(tiny_model_path, dtype="float32")


@pytest.fixture(scope="module")
def texts():
    draw = torch.Generator().manual_seed(0)
    return [torch.randint(0, 400, (n,), generator=draw).tolist() for n in (40, 1, 77)]


@pytest.fixture(scope="module")
def against(model, texts):
    return reference(model.decoder, texts)


def test_the_full_model_is_at_no_distance_from_itself(model, texts, against):
    got = measure_model("full", model.decoder, against)
    assert got.kl == pytest.approx(0, abs=1e-6)
    assert got.perplexity == pytest.approx(perplexity(model, texts).value, rel=1e-5)
    assert (got.bits, got.tokens) == (16.0, 39 + 76)
    assert got.bytes == 2 * model.config.parameters


def test_divergence_is_that_of_the_two_distributions(model, texts, against):
    other = copy.deepcopy(model.decoder)
    quantize(other, QuantizationSettings("rtn", Scheme(3, 16)))
    got = measure_model("rtn", other, against)
    total = 0.0
    for ids in (texts[0], texts[2]):
        p, q = (
            torch.distributions.Categorical(logits=d(torch.tensor([ids[:-1]]))[0].double())
            for d in (model.decoder, other)
        )
        total += float(torch.distributions.kl_divergence(p, q).sum())
    assert got.kl == pytest.approx(total / got.tokens, rel=1e-4)
    assert got.kl > 1e-3
    cached = measure_model("kv", model.decoder, against, attention=Int8KV())
    assert 0 < cached.kl < got.kl


def test_size_counts_scales_and_a_shared_vocabulary_once(model):
    decoder = copy.deepcopy(model.decoder)
    quantize(decoder, QuantizationSettings("rtn", Scheme(4, 32), head_bits=8))
    config = model.config
    vocabulary = config.vocab_size * config.hidden_size
    norms = (2 * config.num_hidden_layers + 1) * config.hidden_size
    linear = config.parameters - vocabulary - norms
    bits = linear * (4 + 20 / 32) + vocabulary * 8 + config.vocab_size * 16
    got, size = stored_size(decoder)
    assert got == pytest.approx(bits / (linear + vocabulary))
    assert size == bits / 8 + 2 * norms


def test_long_texts_are_read_in_pieces(model):
    ids = torch.randint(0, 400, (1024 + 30,), generator=torch.Generator().manual_seed(1)).tolist()
    assert [len(piece) for piece in reference(model.decoder, [ids]).token_ids] == [1024, 30]
    with pytest.raises(InputError, match="no text has two tokens"):
        reference(model.decoder, [[1], []])


def test_speed_is_of_tokens_decoded_one_by_one(model):
    assert decode_speed(model.decoder, [1, 2, 3], tokens=4) > 0


def test_the_smallest_good_enough_is_recommended():
    def result(name, size, value):
        return Measurement(name, 4.0, size, value, 0.0, 100)

    full = result("full", 1000, 10.0)
    close, small, bad = result("a", 600, 10.01), result("b", 300, 10.2), result("c", 250, 10.21)
    assert recommend([close, small, bad], full).name == "b"
    assert recommend([close, small, bad], full, within=0.001).name == "a"
    assert recommend([close, small, bad], full, within=0.03).name == "c"
    assert recommend([small, bad], full, within=0.0).name == "b"
