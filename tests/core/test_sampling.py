"""Sampling parameters: ranges, what excludes what, and that they are plain values."""

from __future__ import annotations

import dataclasses

import pytest

from llmwright.core import ConfigurationError, SamplingParams


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"typical_p": 0.0}, "typical_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"logit_bias": {-1: 2.0}}, "logit_bias"),
        ({"logit_bias": {1: 101.0}}, "logit_bias"),
        ({"n": 0}, "n is 0"),
        ({"n": 3, "best_of": 2, "temperature": 1.0}, "best_of"),
        ({"num_beams": 0}, "num_beams"),
        ({"num_beams": 4, "early_stopping": "always"}, "early_stopping"),
        ({"num_beams": 4, "num_beam_groups": 3, "diversity_penalty": 1.0}, "num_beam_groups"),
        ({"penalty_alpha": 1.2, "top_k": 4}, "penalty_alpha"),
        ({"logprobs": -1}, "logprobs"),
        ({"max_tokens": 3, "min_tokens": 4}, "min_tokens"),
        ({"stop_token_ids": (-2,)}, "stop_token_ids"),
        ({"json_schema": "{"}, "json_schema"),
        ({"json_schema": "[1]"}, "json_schema"),
        # Contradictions
        ({"json_schema": "{}", "regex": "a"}, "exclude each other"),
        ({"num_beams": 4, "temperature": 0.5}, "num_beams"),
        ({"num_beams": 4, "penalty_alpha": 0.6, "top_k": 4}, "two searches"),
        ({"num_beams": 2, "n": 3}, "as many answers as it has beams"),
        ({"num_beams": 2, "best_of": 2}, "two ways to rank"),
        ({"length_penalty": 2.0}, "belong to beam search"),
        ({"early_stopping": True}, "belong to beam search"),
        ({"num_beams": 4, "num_beam_groups": 2}, "only together"),
        ({"num_beams": 4, "diversity_penalty": 0.5}, "only together"),
        ({"penalty_alpha": 0.6}, "top_k"),
        ({"penalty_alpha": 0.6, "top_k": 4, "temperature": 1.0}, "without drawing"),
        ({"n": 2}, "n is 2 at temperature 0"),
        ({"regex": "a", "min_tokens": 2}, "min_tokens"),
        ({"regex": "a", "ignore_eos": True}, "ignore_eos"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given, named):
    with pytest.raises(ConfigurationError, match=named):
        SamplingParams(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"n": 3, "temperature": 0.7},
        {"n": 2, "best_of": 5, "temperature": 1.0},
        {"n": 4, "num_beams": 4, "length_penalty": 0.0, "early_stopping": "never"},
        {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"json_schema": '{"type": "object"}', "temperature": 1.0, "num_beams": 1},
        {"logprobs": 0},
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
    assert dict(a.logit_bias) == {3: -2.0, 7: 1.0}


def test_how_many_are_drawn_and_whether_there_is_structure():
    assert SamplingParams(n=2, best_of=5, temperature=1.0).sequences == 5
    assert SamplingParams(n=2, temperature=1.0).sequences == 2
    assert SamplingParams(regex="a").structured
    assert not SamplingParams().structured
