"""The measurement of long contexts, on a tiny model: what is measured, resumed, tuned and drawn."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest

from llmwright.core import ConfigurationError, InputError
from llmwright.evaluation import ContextSettings, draw_context, measure_context
from llmwright.evaluation import context as home
from llmwright.inference import token_logprobs
from llmwright.modeling import (
    DynamicScaling,
    YarnScaling,
    extend_context,
    load_model,
)

WORDS = [
    "context",
    "window",
    "rotary",
    "angle",
    "key",
    "value",
    "token",
    "layer",
    "head",
    "model",
    "length",
    "base",
]
TRAINED = 128
SETTINGS = ContextSettings(
    lengths=(128, 256, 512), scored=24, needles=3, needle_lengths=(384,), seed=1
)


@pytest.fixture(scope="module")
def model(tiny_model_path):
    return extend_context(load_model(tiny_model_path, "float32"), None, TRAINED)


@pytest.fixture(scope="module")
def text():
    rng = random.Random(0)
    sentences = (" ".join(rng.choices(WORDS, k=9)).capitalize() + "." for _ in range(400))
    return " ".join(sentences)


@pytest.fixture(scope="module")
def report(model, text, tmp_path_factory):
    return measure_context(model, text, SETTINGS, tmp_path_factory.mktemp("context"))


@pytest.mark.parametrize(
    ("method", "scaling"),
    [
        ("none", None),
        ("yarn", YarnScaling(4.0, TRAINED)),
        ("dynamic", DynamicScaling(4.0, TRAINED)),
    ],
)
def test_perplexity_is_that_of_each_length_by_itself(report, model, text, method, scaling):
    """Whether it came from one pass for all lengths or from a pass a length."""
    extended = extend_context(model, scaling, 512)
    ids = model.tokenizer.encode(text)
    for length in SETTINGS.lengths:
        every = token_logprobs(extended, ids[:length])
        score = report.perplexity(method, length)
        places = [
            place for place, _ in report.curve(method, length) if length // 2 <= place < length
        ]
        assert len(places) == score.n == 24
        assert all(a < b for a, b in pairwise(places))
        mean = math.fsum(float(every[place - 1]) for place in places) / len(places)
        assert score.value == pytest.approx(math.exp(-mean), rel=1e-4)
        assert score.low < score.value < score.high


def test_the_factor_is_the_longest_length_over_the_trained_one(report):
    assert (report.trained, report.factor) == (TRAINED, 4.0)


def test_methods_are_compared_at_the_same_places(report):
    for length in SETTINGS.lengths:
        one = [place for place, _ in report.curve("none", length) if place >= length // 2]
        two = [place for place, _ in report.curve("dynamic", length) if place >= length // 2]
        assert one == two
    assert report.gain("yarn", "yarn", 512).value == 0
    gain = report.gain("yarn", "none", 512)
    difference = math.log(report.perplexity("none", 512).value) - math.log(
        report.perplexity("yarn", 512).value
    )
    assert gain.value == pytest.approx(difference)


def test_needles_are_the_same_for_all_methods_and_each_is_counted(report):
    records = [record for record in report.records if record["kind"] == "needles"]
    assert [record["method"] for record in records] == ["none", "linear", "ntk", "dynamic", "yarn"]
    asked = {tuple((n["name"], n["number"], n["depth"]) for n in r["found"]) for r in records}
    assert len(asked) == 1
    assert report.found("yarn", 384).n == 3
    assert report.found("yarn", 384, 0.5).n == 1
    assert report.found("yarn", 512).value is None
    ranks = [n["rank"] for r in records if r["method"] == "yarn" for n in r["found"]]
    assert report.found("yarn", 384).value == ranks.count(1) / 3
    assert report.written("yarn", 384).value == 0


def test_rows_name_everything_measured(report):
    rows = report.rows()
    assert {(row["method"], row["length"]) for row in rows} == {
        (method, length) for method in SETTINGS.methods for length in (*SETTINGS.lengths, 384)
    }
    json.dumps(rows)


def test_a_stopped_run_goes_on(model, text, tmp_path, monkeypatch, report):
    real, done = home.logprobs_at, []

    def stopping(*arguments):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments)

    monkeypatch.setattr(home, "logprobs_at", stopping)
    with pytest.raises(KeyboardInterrupt):
        measure_context(model, text, SETTINGS, tmp_path)
    kept = len(done)

    def counting(*arguments):
        done.append(1)
        return real(*arguments)

    monkeypatch.setattr(home, "logprobs_at", counting)
    again = measure_context(model, text, SETTINGS, tmp_path)
    assert len(done) == kept + 4  # seven passes in all: dynamic takes three
    assert again.records == report.records
    lines = (tmp_path / "context.jsonl").read_text().splitlines()
    assert tuple(map(json.loads, lines)) == again.records


def test_tuning_changes_the_tuned_model_alone(model, text, tmp_path):
    settings = ContextSettings(
        lengths=(128, 256), methods=("linear",), scored=16, needles=0,
        finetune_steps=2, finetune_length=256,
    )  # fmt: skip
    before = {name: p.clone() for name, p in model.decoder.named_parameters()}
    result = measure_context(model, text, settings, tmp_path)
    assert all((before[name] == p).all() for name, p in model.decoder.named_parameters())
    plain = result.logprobs("linear", 256)
    tuned = result.logprobs("linear", 256, tuned=True)
    assert len(plain) == len(tuned) == 16
    assert plain != tuned
    assert sum(tuned) > sum(plain)  # noise learns that some tokens are rare
    untuned = measure_context(model, text, replace(settings, finetune_steps=0), tmp_path / "two")
    assert untuned.logprobs("linear", 256) == plain


def test_a_checkpoint_s_own_scaling(model, text, tmp_path):
    given = extend_context(model, YarnScaling(2.0, TRAINED), 2 * TRAINED)
    settings = replace(SETTINGS, methods=("own", "yarn"), factor=2.0, lengths=(256,), needles=0)
    result = measure_context(given, text, settings, tmp_path)
    assert result.trained == TRAINED
    assert result.logprobs("own", 256) == result.logprobs("yarn", 256)


def test_pictures(report, tmp_path):
    names = [path.name for path in draw_context(report, tmp_path)]
    assert names == ["perplexity.svg", "perplexity.png", "needles.svg", "needles.png"]
    svgs = [tmp_path / name for name in names if name.endswith("svg")]
    contents = [path.read_text() for path in svgs]
    assert all("yarn" in content and content.startswith("<?xml") for content in contents)
    draw_context(report, tmp_path)
    assert [path.read_text() for path in svgs] == contents  # the same bytes again


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"lengths": (200_000,)}, InputError, "the texts hold"),
        ({"texts": 500}, InputError, "the texts hold"),
        ({"finetune_steps": 100}, InputError, "the texts hold"),
        ({"needle_lengths": (128,), "needles": 5}, InputError, "5 needles"),
        ({"methods": ("magic",)}, ConfigurationError, "magic"),
        ({"lengths": ()}, ConfigurationError, "lengths"),
        ({"scored": 0}, ConfigurationError, "scored"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_work(
    model, text, tmp_path, changes, error, says
):
    with pytest.raises(error, match=says):
        measure_context(model, text, replace(SETTINGS, **changes), tmp_path / "none")
    assert not (tmp_path / "none").exists()
