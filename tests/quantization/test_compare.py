import json
from dataclasses import asdict

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from llmwright.core import InputError
from llmwright.modeling import choose_dtype, load_model, quantized_weights
from llmwright.quantization import (
    Comparison,
    Measurement,
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


def measurement(name, megabytes, value, kl):
    return Measurement(name, 4.5, megabytes * 1_000_000, value, kl, 100, 12.0)


FULL = measurement("full", 200, 10.0, 0.0)
SMALL, LARGE = measurement("small", 50, 10.15, 0.02), measurement("large", 100, 10.05, 0.01)


def test_a_comparison_says_all_of_it():
    found = Comparison(FULL, (SMALL, LARGE), SMALL, 0.02)
    rule = "small: the smallest whose perplexity is within 2.0% of the full model's (+1.50%)"
    assert found.record() == {
        "full": asdict(FULL),
        "results": [asdict(SMALL), asdict(LARGE)],
        "recommended": "small",
        "rule": rule,
    }
    exactly = Comparison(FULL, (SMALL,), measurement("edge", 50, 12.5, 0.0), 0.25)
    assert exactly.rule.startswith("edge: the smallest")
    none = Comparison(FULL, (SMALL, LARGE), LARGE, 0.001)
    assert none.rule == (
        "large: none is within 0.1% of the full model's perplexity; the nearest (+0.50%)"
    )


def test_the_picture_shows_each_model_where_it_stands(tmp_path, monkeypatch):
    seen = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, *a, **k: (seen.append(f), save(f, *a, **k)))
    found = Comparison(FULL, (SMALL, LARGE), SMALL, 0.02)
    for ending, words in (("svg", b"<dc:date>"), ("png", b"Software")):
        draw_comparison(found, tmp_path / f"picture.{ending}")
        assert words not in (tmp_path / f"picture.{ending}").read_bytes()
    quality, distance = seen[0].axes
    points = [
        (tuple(points.get_offsets()[0]), to_hex(points.get_facecolor()[0]))
        for points in quality.collections
    ]
    orange, blue, gray = "#d97706", "#2563eb", "#6b7280"
    assert points == [((50, 10.15), orange), ((100, 10.05), blue), ((200, 10.0), gray)]
    assert [text.get_text() for text in quality.texts] == ["small", "large", "full"]
    assert [text.xy for text in quality.texts] == [(50, 10.15), (100, 10.05), (200, 10.0)]
    assert list(quality.lines[0].get_ydata()) == pytest.approx([10.2, 10.2])
    assert (quality.get_xlabel(), quality.get_ylabel()) == ("megabytes", "perplexity")
    assert quality.get_xlim()[0] == 0
    bars = [(bar.get_width(), to_hex(bar.get_facecolor())) for bar in distance.patches]
    assert bars == [(0.02, orange), (0.01, blue)]
    assert [label.get_text() for label in distance.get_yticklabels()] == ["small", "large"]
    assert distance.yaxis_inverted()  # the first stands above
    assert distance.get_xlabel() == "KL(full || quantized), nats a token"


@pytest.mark.parametrize(("shared", "refused"), [(31, False), (32, True)])
def test_thirty_two_tokens_in_common_are_no_chance(model, shared, refused):
    text = [*tokens(20, 5), *CALIBRATION.flatten()[70 : 70 + shared].tolist(), 7, 7, 7]
    if not refused:
        found = compare_models(
            model, [("int8", QuantizationSettings("rtn", Scheme(8, 0)))], CALIBRATION, [text],
            speed=None,
        )  # fmt: skip
        assert found.full.tokens == len(text) - 1
    else:
        with pytest.raises(InputError, match=r"^32 tokens that are measured on stand in the cal"):
            compare_models(model, [], CALIBRATION, [tokens(40, 9), text])


def test_each_model_is_timed_in_the_processor_s_dtype_on_the_first_tokens(model, tmp_path):
    asked = []

    def speed(decoder, prompt):
        asked.append((decoder.dtype, list(prompt), len(quantized_weights(decoder))))
        return float(len(asked))

    held_out = [tokens(80, 2), tokens(40, 3)]
    methods = [("int8", QuantizationSettings("rtn", Scheme(8, 0, symmetric=True)))]
    target = Target(tmp_path / "new" / "models", "F32")
    found = compare_models(model, methods, None, held_out, target=target, speed=speed)
    dtype = choose_dtype("auto")
    assert asked == [(dtype, held_out[0][:64], 0), (dtype, held_out[0][:64], 14)]
    assert [r.tokens_per_second for r in (found.full, *found.results)] == [1.0, 2.0]
    assert found.within == 0.02 and found.recommended is found.results[0]
    assert model.dtype == torch.float32
    (file,) = (tmp_path / "new" / "models").iterdir()
    assert file.name == "int8.gguf" and file.stat().st_size > 4 * model.config.parameters
    assert found.full.name == "full"
