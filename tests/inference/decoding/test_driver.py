"""The plain loops: greedy as transformers, several answers as each alone, ranking."""

from __future__ import annotations

import pytest
import torch

from llmwright.core import InputError, SamplingParams
from llmwright.inference.decoding import (
    BeamSearch,
    ContrastiveSearch,
    DiverseBeamSearch,
    SamplingState,
    generate,
    rank_answers,
    search_for,
)


@torch.inference_mode()
def test_greedy_equals_transformers(decoder, reference):
    prompt = [5, 6, 7]
    theirs = reference.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, 3, dtype=torch.long),
        do_sample=False, max_new_tokens=20, eos_token_id=[3, 11],
    )  # fmt: skip
    (ours,) = generate(decoder, prompt, SamplingParams(max_tokens=20), ends=[3, 11])
    assert list(ours.token_ids) == theirs[0, 3:].tolist()


def test_more_answers_do_not_change_the_first_and_end_each_by_themselves(decoder):
    ends = range(0, 97, 7)
    one = SamplingParams(max_tokens=15, temperature=1.0, seed=4)
    many = SamplingParams(max_tokens=15, temperature=1.0, seed=4, n=6)
    (alone,) = generate(decoder, [5, 6], one, ends=ends)
    answers = generate(decoder, [5, 6], many, ends=ends)
    assert answers[0].token_ids == alone.token_ids
    assert len({answer.token_ids for answer in answers}) == 6
    assert len({len(answer.token_ids) for answer in answers}) > 1
    for answer in answers:
        assert not any(token in ends for token in answer.token_ids[:-1])
        assert (answer.finish_reason == "stop") == (answer.token_ids[-1] in ends)


def test_best_of_keeps_the_likeliest(decoder):
    drawn = SamplingParams(max_tokens=8, temperature=1.0, seed=4, n=8)
    best = SamplingParams(max_tokens=8, temperature=1.0, seed=4, n=3, best_of=8)
    everything = sorted(generate(decoder, [5, 6], drawn), key=lambda a: -a.score)
    assert generate(decoder, [5, 6], best) == everything[:3]


def test_ranking_is_by_the_mean():
    assert rank_answers([[-4.0], [-1.0, -2.0, -3.0], [], [-2.0], [-1.0]]) == [4, 1, 3, 0, 2]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"temperature": 1.0}, type(None)),
        ({"num_beams": 2}, BeamSearch),
        ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0}, DiverseBeamSearch),
        ({"penalty_alpha": 0.1, "top_k": 2}, ContrastiveSearch),
    ],
)
def test_the_search_that_parameters_ask_for(given, kind):
    search = search_for(SamplingState(SamplingParams(**given)), 5)
    assert type(search) is kind


@pytest.mark.parametrize(
    "extra",
    [{}, {"temperature": 1.0, "seed": 1}, {"num_beams": 2}, {"penalty_alpha": 0.5, "top_k": 3}],
    ids=str,
)
def test_an_answer_ends_where_the_context_ends(decoder, extra):
    limit = decoder.config.max_position_embeddings
    prompt = [5, 6] * (limit // 2 - 2)
    (answer,) = generate(decoder, prompt, SamplingParams(max_tokens=50, **extra))
    assert len(answer.token_ids) == 4
    assert answer.finish_reason == "length"


def test_a_drawn_answer_is_scored_by_the_mean_of_its_log_probabilities(decoder):
    (answer,) = generate(decoder, [5], SamplingParams(max_tokens=4, temperature=1.0, seed=2))
    assert answer.score == pytest.approx(sum(answer.logprobs) / 4)


def test_tokens_that_the_model_lacks_are_refused(decoder):
    with pytest.raises(InputError, match="logit_bias names token 97; this model's tokens run from"):
        generate(decoder, [5], SamplingParams(logit_bias={97: 1.0}))
