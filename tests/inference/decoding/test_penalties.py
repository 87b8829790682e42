"""Penalties and bias against transformers and the OpenAI formula, and counts that can go back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor, SequenceBiasLogitsProcessor

from llmwright.core import InputError, SamplingParams
from llmwright.inference.decoding import SamplingState, check_tokens, process

VOCAB = 20
TOKENS = st.lists(st.integers(0, VOCAB - 1), max_size=15)


def state_after(params: SamplingParams, prompt: list[int], output: list[int]) -> SamplingState:
    state = SamplingState(params, prompt)
    for token in output:
        state.advance(token)
    return state


def rows(count: int) -> torch.Tensor:
    return torch.randn(count, VOCAB, generator=torch.Generator().manual_seed(count)) * 4


@given(TOKENS, TOKENS, st.sampled_from([0.5, 1.0, 1.3]), st.floats(-2, 2), st.floats(-2, 2))
def test_penalties_equal_transformers_and_openai(prompt, output, repetition, presence, frequency):
    params = SamplingParams(
        repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency
    )
    logits = rows(1)
    before = logits.clone()
    ours = process(logits, [state_after(params, prompt, output)])
    assert torch.equal(logits, before)  # what came in stays as it was
    theirs = logits
    if prompt + output:
        warp = RepetitionPenaltyLogitsProcessor(repetition)
        theirs = warp(torch.tensor([prompt + output]), logits)
    counts = torch.bincount(torch.tensor(output, dtype=torch.long), minlength=VOCAB)
    theirs = theirs - frequency * counts - presence * (counts > 0)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@given(TOKENS, TOKENS, TOKENS, TOKENS)
def test_what_a_clone_takes_note_of_leaves_no_trace(prompt, output, drafted, after):
    params = SamplingParams(repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.2)
    state = state_after(params, prompt, output)
    copy = state.clone()
    for token in drafted:
        copy.advance(token)
    for token in after:
        state.advance(token)
    fresh = state_after(params, prompt, output + after)
    other = state_after(params, prompt, output + drafted)
    logits = rows(3)
    ours = process(logits, [state, copy, fresh])
    for row, alone in enumerate((fresh, other, fresh)):
        torch.testing.assert_close(ours[row], process(logits[row : row + 1], [alone])[0])


def test_many_tokens_outgrow_the_first_buffers():
    params = SamplingParams(frequency_penalty=1.0)
    logits = torch.zeros(1, 1000)
    state = state_after(params, [], [*range(500), *range(250)])
    ours = process(logits, [state])[0]
    assert ours.tolist() == [-2.0] * 250 + [-1.0] * 250 + [0.0] * 500


def test_bias_equals_transformers_and_comes_before_the_penalties():
    bias = {3: 5.0, 7: -100.0}
    logits = rows(2)
    state = SamplingState(SamplingParams(logit_bias=bias))
    theirs = SequenceBiasLogitsProcessor({(t,): b for t, b in bias.items()})
    theirs = theirs(torch.zeros(2, 1, dtype=torch.long), logits.clone())
    torch.testing.assert_close(process(logits, [state, state]), theirs)
    both = SamplingParams(logit_bias=((3, 5.0),), repetition_penalty=2.0)
    ours = process(torch.zeros(1, VOCAB), [SamplingState(both, [3])])
    assert float(ours[0, 3]) == 2.5


def test_least_length_forbids_every_end():
    params = SamplingParams(min_tokens=2, stop_token_ids=(5,))
    state = SamplingState(params, ends=[2])
    assert process(torch.zeros(1, 8), [state]).isinf()[0].nonzero().flatten().tolist() == [2, 5]
    state.advance(0)
    assert state.changes_logits
    state.advance(1)
    assert not state.changes_logits
    assert not SamplingState(SamplingParams(ignore_eos=True), ends=[2]).is_end(2)


def test_tokens_that_the_model_lacks_are_refused():
    check_tokens(SamplingParams(logit_bias={9: 1.0}, stop_token_ids=(3,)), 10)
    with pytest.raises(
        InputError, match=r"^sampling parameters: logit_bias names token 10; .* 0 to 9"
    ):
        check_tokens(SamplingParams(logit_bias={10: 1.0, 3: 1.0}), 10)
    with pytest.raises(InputError, match="stop_token_ids names token 11"):
        check_tokens(SamplingParams(stop_token_ids=(3, 11)), 10)
