"""Sampling parameters: ranges, what excludes what, and that they are plain values."""

from __future__ import annotations

import dataclasses
import math

import pytest

from llmwright.core import ConfigurationError, SamplingParams

BEAMS = {"num_beams": 128}
DRAWN = {"temperature": 1.0}
CONTRASTIVE = {"top_k": 4}

# Name, what else is set, the last values that are taken, the first that are not, the rule told.
RANGES = [
    ("max_tokens", {}, [1], [0, -1], "at least 1"),
    ("temperature", {}, [0.0, 100.0], [-0.01, 100.1, math.nan], "between 0 and 100"),
    ("top_k", {}, [0], [-1], "0 (off) or more"),
    ("top_p", {}, [0.01, 1.0], [0.0, 1.01, math.nan], "above 0 and at most 1"),
    ("stop", {}, [(), ("a",)], [("a", "")], "strings that are not empty"),
    ("min_p", {}, [0.0, 1.0], [-0.01, 1.01, math.nan], "between 0 (off) and 1"),
    ("typical_p", {}, [0.01, 1.0], [0.0, 1.01, math.nan], "above 0 and at most 1 (off)"),
    ("repetition_penalty", {}, [0.01, 100.0], [0.0, 100.1], "above 0 and at most 100 (1 is off)"),
    ("presence_penalty", {}, [-2.0, 2.0], [-2.1, 2.1], "between -2 and 2"),
    ("frequency_penalty", {}, [-2.0, 2.0], [-2.1, 2.1], "between -2 and 2"),
    ("logit_bias", {}, [((0, -100.0),), ((7, 100.0),)],
     [((-1, 2.0),), ((1, 100.1),), ((1, -100.1),)], "token ids with values between -100 and 100"),
    ("n", DRAWN, [1, 128], [0, 129], "between 1 and 128"),
    ("best_of", DRAWN | {"n": 2}, [2, 128], [1, 129], "at least n and at most 128"),
    ("num_beams", {}, [1, 2, 128], [0, 129], "between 1 (off) and 128"),
    ("length_penalty", BEAMS, [-1.0, 0.0, 3.0], [math.inf, math.nan], "a finite number"),
    ("early_stopping", BEAMS, [True, False, "never"], ["always"], "a bool or 'never'"),
    ("num_beam_groups", BEAMS | {"diversity_penalty": 1.0}, [2, 128], [0, 3, 129, 256],
     "a divisor of num_beams"),
    ("diversity_penalty", BEAMS | {"num_beam_groups": 2}, [0.1, 9.0], [-0.1, math.inf, math.nan],
     "0 or more"),
    ("penalty_alpha", CONTRASTIVE, [0.0, 0.01, 1.0], [-0.01, 1.01], "between 0 (off) and 1"),
    ("logprobs", {}, [None, 0, 100], [-1, 101], "between 0 and 100"),
    ("min_tokens", {"max_tokens": 3}, [0, 3], [-1, 4], "between 0 and max_tokens"),
    ("stop_token_ids", {}, [(), (0, 5)], [(5, -1)], "token ids"),
    ("json_schema", {}, ["{}", "true"], ["{", "[1]", "", "1", 3], "JSON text"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "others", "taken", "refused", "rule"), RANGES)
def test_ranges(name, others, taken, refused, rule):
    for value in taken:
        assert getattr(SamplingParams(**{**others, name: value}), name) == value
    for value in refused:
        with pytest.raises(ConfigurationError) as caught:
            SamplingParams(**{**others, name: value})
        assert str(caught.value) == (
            f"sampling parameters: {name} is {value!r}; {name} must be {rule}."
        )


def test_every_number_and_text_has_a_range():
    switches = {"seed", "ignore_eos", "regex", "grammar"}
    names = {field.name for field in dataclasses.fields(SamplingParams)}
    assert {name for name, *_ in RANGES} == names - switches


@pytest.mark.parametrize(
    ("given", "what", "fix"),
    [
        ({"json_schema": "{}", "regex": "a"}, "exclude each other", "give one of them"),
        ({"regex": "a", "grammar": "b"}, "exclude each other", "give one of them"),
        ({"num_beams": 4, "temperature": 0.5}, "num_beams is 4 and temperature 0.5", "at 0"),
        ({"num_beams": 2, "penalty_alpha": 0.1, "top_k": 4}, "two searches", "give one of them"),
        ({"num_beams": 2, "n": 3}, "n is 3 and num_beams 2", "raise num_beams"),
        ({"num_beams": 2, "best_of": 1}, "two ways to rank", "give one of them"),
        ({"length_penalty": 2.0}, "belong to beam search", "set num_beams above 1"),
        ({"early_stopping": True}, "belong to beam search", "set num_beams above 1"),
        ({"early_stopping": "never"}, "belong to beam search", "set num_beams above 1"),
        ({"num_beams": 4, "num_beam_groups": 2}, "only together", "set both, or neither"),
        ({"num_beams": 4, "diversity_penalty": 0.5}, "only together", "set both, or neither"),
        ({"penalty_alpha": 0.6}, "contrastive search", "top_k to 2 or more"),
        ({"penalty_alpha": 0.6, "top_k": 1}, "contrastive search", "top_k to 2 or more"),
        (
            {"penalty_alpha": 0.6, "top_k": 4, "temperature": 0.1},
            "contrastive search",
            "temperature 0",
        ),
        ({"penalty_alpha": 0.6, "top_k": 4, "n": 2}, "contrastive search", "and n 1"),
        ({"n": 2}, "n is 2 at temperature 0", "temperature above 0, or num_beams"),
        ({"best_of": 2}, "best_of is 2 at temperature 0", "temperature above 0, or num_beams"),
        ({"regex": "a", "min_tokens": 1}, "min_tokens would forbid", "leave min_tokens out"),
        ({"json_schema": "{}", "ignore_eos": True}, "ignore_eos would go on", "leave ignore_eos"),
    ],
)
def test_what_excludes_each_other_is_refused_with_the_way_out(given, what, fix):
    with pytest.raises(ConfigurationError) as caught:
        SamplingParams(**given)
    assert caught.value.where == "sampling parameters"
    assert what in caught.value.what
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    "given",
    [
        {"n": 2, "temperature": 0.01},
        {"n": 2, "best_of": 5, "temperature": 1.0},
        {"n": 4, "num_beams": 4, "length_penalty": 0.0, "early_stopping": "never"},
        {"num_beams": 2, "length_penalty": 2.0, "early_stopping": True},
        {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5},
        {"penalty_alpha": 0.6, "top_k": 2},
        {"json_schema": '{"type": "object"}', "temperature": 1.0, "num_beams": 1},
        {"min_tokens": 2, "ignore_eos": True},
    ],
)
def test_what_can_be_is_taken(given):
    params = SamplingParams(**given)
    assert params == SamplingParams(**given)
    assert hash(params) == hash(dataclasses.replace(params))


def test_the_bias_is_a_value_whatever_it_was_given_as():
    a, b = (
        SamplingParams(logit_bias={7: 1.0, 3: -2.0}),
        SamplingParams(logit_bias=((3, -2.0), (7, 1.0))),
    )
    assert a == b
    assert hash(a) == hash(b)
    assert a.logit_bias == ((3, -2.0), (7, 1.0))


def test_how_many_are_drawn_and_whether_there_is_structure():
    assert SamplingParams(n=2, best_of=5, temperature=1.0).sequences == 5
    assert SamplingParams(n=2, temperature=1.0).sequences == 2
    for form in ({"regex": "a"}, {"grammar": "start: /a/"}, {"json_schema": "{}"}):
        assert SamplingParams(**form).structured
    assert not SamplingParams().structured
