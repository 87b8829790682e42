import json
from dataclasses import asdict

import pytest
import torch

from llmwright.core import InputError
from llmwright.modeling import load_model
from llmwright.quantization import (
    QuantizationSettings,
    Scheme,
    Target,
    compare_models,
    draw_comparison,
    measure_model,
    reference,
)


@pytest.fixture(scope="module")
def model(tiny_model_path):
    return load_model(tiny_model_path, dtype="float32")


def tokens(count, seed):
    return torch.randint(3, 400, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


CALIBRATION = torch.tensor(tokens(256, 1)).view(4, 64)


def test_methods_are_measured_written_and_recommended(tmp_path, model):
    before = {name: weight.clone() for name, weight in model.decoder.state_dict().items()}
    methods = [
        ("int8", QuantizationSettings("rtn", Scheme(8, 0, symmetric=True))),
        ("gptq", QuantizationSettings("gptq", Scheme(4, 32))),
    ]
    held_out = [tokens(80, 2), tokens(40, 3)]
    target = Target(tmp_path / "models", "compressed-tensors")
    found = compare_models(model, methods, CALIBRATION, held_out, within=0.001, target=target)
    for name, weight in model.decoder.state_dict().items():
        assert torch.equal(weight, before[name])
    assert [r.name for r in found.results] == ["int8", "gptq"]
    assert found.full.kl == pytest.approx(0, abs=1e-6)
    assert 0 < found.results[0].kl < found.results[1].kl
    assert found.full.bytes > found.results[0].bytes > found.results[1].bytes
    assert all(r.tokens_per_second > 0 for r in (found.full, *found.results))
    assert found.recommended.name in found.rule
    assert found.record()["results"] == [asdict(r) for r in found.results]
    json.dumps(found.record())

    # What was written is what was measured.
    loaded = load_model(tmp_path / "models" / "gptq", dtype="float32")
    got = measure_model("gptq", loaded.decoder, reference(model.decoder, held_out))
    assert got.kl == pytest.approx(found.results[1].kl, rel=1e-3)

    for ending in ("svg", "png"):
        draw_comparison(found, tmp_path / f"picture.{ending}")
    picture = (tmp_path / "picture.svg").read_text()
    assert "gptq" in picture and "int8" in picture and "megabytes" in picture
    draw_comparison(found, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == picture


def test_the_rule_says_when_none_is_good_enough(model):
    methods = [("two bits", QuantizationSettings("rtn", Scheme(2, 32)))]
    found = compare_models(model, methods, None, [tokens(60, 2)], within=0.0, speed=None)
    assert found.recommended.tokens_per_second is None
    share = found.recommended.perplexity / found.full.perplexity
    assert found.rule.startswith("two bits: none is within 0.0%") == (share > 1)


def test_text_that_is_calibrated_on_is_not_measured_on(model):
    held_out = [tokens(30, 2) + CALIBRATION[1, 10:50].tolist()]
    with pytest.raises(InputError, match="stand in the calibration text as well"):
        compare_models(model, [], CALIBRATION, held_out)
