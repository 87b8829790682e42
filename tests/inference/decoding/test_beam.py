"""Beam search against transformers' own, token for token, and its laws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import SamplingParams
from llmwright.inference.decoding import BeamSearch, SamplingState, generate, run_search

# Few tokens, so that beams end early, late and at once in the cases below.
CASES = [
    # beams, length penalty, early stopping, ends, tokens
    (2, 1.0, False, (), 6),
    (4, 1.0, False, (3, 11, 40, 41, 42, 60), 12),
    (4, 0.0, False, (3, 11, 40, 41, 42, 60), 12),
    (5, 2.0, False, (3, 11, 40, 41, 42, 60), 12),
    (4, 1.0, True, (3, 11, 40, 41, 42, 60), 12),
    (4, -0.5, True, tuple(range(0, 97, 5)), 12),
    (4, 1.0, "never", (3, 11, 40, 41, 42, 60), 12),
    (3, -1.0, "never", tuple(range(0, 97, 5)), 12),
    (4, 1.0, False, tuple(range(0, 97, 3)), 12),
    (3, 1.5, True, tuple(range(0, 97, 3)), 9),
    (3, 1.0, False, (7,), 1),
]


@pytest.mark.parametrize("prompt_seed", range(4))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equal_to_transformers(decoder, reference, case, prompt_seed):
    beams, length_penalty, early_stopping, ends, count = case
    generator = torch.Generator().manual_seed(prompt_seed)
    prompt = torch.randint(0, 97, (7,), generator=generator).tolist()
    theirs = reference.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, 7, dtype=torch.long),
        num_beams=beams, num_return_sequences=beams, do_sample=False, max_new_tokens=count,
        length_penalty=length_penalty, early_stopping=early_stopping, pad_token_id=96,
        eos_token_id=list(ends) or None, output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    params = SamplingParams(
        num_beams=beams, length_penalty=length_penalty, early_stopping=early_stopping
    )
    search = BeamSearch(SamplingState(params, ends=ends), count)
    ours = run_search(decoder, prompt, search)
    assert len(ours) == beams
    for answer, row, score in zip(ours, theirs.sequences, theirs.sequences_scores, strict=True):
        tokens = row[7 : 7 + len(answer.token_ids)].tolist()
        assert list(answer.token_ids) == tokens
        assert set(row[7 + len(answer.token_ids) :].tolist()) <= {96}
        assert answer.score == pytest.approx(float(score), abs=1e-4)
        ended = answer.token_ids[-1] in ends
        assert answer.finish_reason == ("stop" if ended else "length")


def test_scores_are_the_model_s_log_probabilities(decoder):
    prompt = [5, 9, 2]
    state = SamplingState(SamplingParams(num_beams=4), ends=[3, 11])
    answers = run_search(decoder, prompt, BeamSearch(state, 6))
    for answer in answers:
        ids = torch.tensor([[*prompt, *answer.token_ids]])
        logp = decoder(ids)[0].log_softmax(-1)[2:-1]
        expected = logp.gather(1, ids[0, 3:, None])[:, 0]
        assert answer.logprobs == pytest.approx(expected.tolist(), abs=1e-4)
        assert answer.score == pytest.approx(sum(answer.logprobs) / len(answer.logprobs), abs=1e-4)


@settings(max_examples=10)
@given(st.lists(st.integers(0, 96), min_size=1, max_size=5), st.integers(1, 4))
def test_as_many_beams_as_texts_is_exhaustive(decoder, prompt, count):
    """Over a vocabulary cut to 3 tokens, 27 beams see every text of 3 tokens."""
    bias = {t: -100.0 for t in range(97) if t not in (5, 6, 7)}
    params = SamplingParams(max_tokens=min(count, 3), num_beams=27, n=27, logit_bias=bias)
    answers = generate(decoder, prompt, params)
    best: dict[tuple[int, ...], float] = {(): 0.0}
    for _ in range(min(count, 3)):
        longer = {}
        for text, score in best.items():
            logits = decoder(torch.tensor([[*prompt, *text]]))[0, -1]
            logits[list(bias)] -= 100.0
            for token, logp in enumerate(logits.log_softmax(-1).tolist()):
                if token not in bias:
                    longer[(*text, token)] = score + logp
        best = longer
    length = min(count, 3)
    ranked = sorted(best, key=lambda text: -best[text])
    assert [a.token_ids for a in answers][: len(ranked)] == ranked
    assert answers[0].score == pytest.approx(best[ranked[0]] / length, abs=1e-4)


def test_penalties_follow_each_beam(decoder):
    """A penalty that forbids what a beam said leaves texts without repetition."""
    params = SamplingParams(max_tokens=8, num_beams=4, n=4, repetition_penalty=100.0)
    answers = generate(decoder, [4, 8], params)
    assert len({answer.token_ids for answer in answers}) == 4
    for answer in answers:
        assert len(set(answer.token_ids)) == 8


def test_least_length_holds_in_every_beam(decoder):
    params = SamplingParams(
        max_tokens=9, min_tokens=5, num_beams=3, n=3, stop_token_ids=tuple(range(0, 97, 2))
    )
    answers = generate(decoder, [4, 8], params)
    assert min(len(answer.token_ids) for answer in answers) >= 6
    state = SamplingState(params)
    assert all(not state.is_end(t) for a in answers for t in a.token_ids[:5])


def test_a_search_that_is_not_over_gives_what_lives(decoder):
    params = SamplingParams(num_beams=3, length_penalty=2.0)
    search = BeamSearch(SamplingState(params, ends=[3]), 5)
    (nothing,) = search.results()
    assert (nothing.token_ids, nothing.logprobs, nothing.score) == ((), (), 0.0)
    for count in (1, 2):
        logits = torch.randn(3 if count > 1 else 1, 97, generator=torch.Generator().manual_seed(1))
        logits[:, 3] = -50.0
        assert len(search.advance(logits)) == 3
        found = search.results()
        assert [len(answer.token_ids) for answer in found] == [count] * 3
        assert [answer.score for answer in found] == pytest.approx(
            [sum(answer.logprobs) / count**2 for answer in found]
        )
        assert sorted(found, key=lambda answer: -answer.score) == found
        assert {answer.finish_reason for answer in found} == {"length"}


def test_a_step_that_allows_too_little_keeps_what_it_allows():
    """Two of three beams have nothing that may follow."""
    search = BeamSearch(SamplingState(SamplingParams(num_beams=3)), 4)
    logits = torch.full((1, 9), -torch.inf)
    logits[0, 4] = 0.0
    assert [branch.token for branch in search.advance(logits)] == [4]
    assert not search.done
