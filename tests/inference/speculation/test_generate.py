"""Speculation gives what plain decoding gives: token for token where greedy, in distribution
where sampled; and the draft model's cache is at every round what a fresh one would hold."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import InputError, SamplingParams
from llmwright.inference.decoding import SamplingState, choose, distribution
from llmwright.inference.speculation import (
    Ask,
    Draft,
    NGramProposer,
    Speculation,
    plain_generate,
    speculative_generate,
)
from llmwright.modeling import ModelConfig, random_decoder

PROMPTS = ([3, 4, 5, 6, 7, 3, 4, 5], [1], [9, 9, 9, 9, 2, 9, 9], list(range(20)))


def propose(proposer, key, tokens, length):
    """A greedy draft for one sequence."""
    return proposer.propose([Ask(key, tokens, length)])[0]


def proposers(drafts_from, target, relative):
    return {
        "ngram": NGramProposer(1, 8),
        "draft": drafts_from(relative),
        "itself": drafts_from(target),
    }


@pytest.mark.parametrize("kind", ["ngram", "draft", "itself"])
@pytest.mark.parametrize("length", [1, 3, 5, 16])
def test_greedy_answers_are_those_of_plain_decoding(drafts_from, target, relative, kind, length):
    params = SamplingParams(max_tokens=40)
    for prompt in PROMPTS:
        done = speculative_generate(
            target, proposers(drafts_from, target, relative)[kind], prompt, params, length=length
        )
        assert done.token_ids == plain_generate(target, prompt, params).token_ids
        assert sum(done.accepted) + len(done.drafted) == len(done.token_ids)
        assert all(
            kept <= drafted for kept, drafted in zip(done.accepted, done.drafted, strict=True)
        )


@pytest.mark.parametrize("kind", ["draft", "ngram"])
def test_something_is_accepted_and_something_rejected(drafts_from, target, relative, kind):
    """Without both, the equalities above would prove little."""
    done = [
        speculative_generate(
            target,
            proposers(drafts_from, target, relative)[kind],
            prompt,
            SamplingParams(max_tokens=40),
        )
        for prompt in PROMPTS
    ]
    rates = [each.acceptance for each in done if each.acceptance is not None]
    assert 0.0 < sum(rates) / len(rates) < 1.0


def test_a_model_that_guesses_for_itself_is_never_wrong(drafts_from, target):
    for temperature in (0.0, 1.0):
        params = SamplingParams(max_tokens=40, temperature=temperature, top_p=0.9, seed=3)
        done = speculative_generate(target, drafts_from(target), PROMPTS[0], params, length=4)
        assert done.accepted == done.drafted
        assert len(done.drafted) == 8
        assert done.acceptance == 1.0


@pytest.mark.parametrize("kind", ["ngram", "draft"])
def test_penalties_see_the_drafts_before_them(drafts_from, target, relative, kind):
    params = SamplingParams(max_tokens=40, repetition_penalty=1.2, frequency_penalty=0.1)
    for prompt in PROMPTS:
        done = speculative_generate(
            target, proposers(drafts_from, target, relative)[kind], prompt, params
        )
        assert done.token_ids == plain_generate(target, prompt, params).token_ids


@pytest.mark.parametrize("seed", range(3))
def test_n_grams_leave_a_seeds_tokens_as_they_are(target, seed):
    params = SamplingParams(max_tokens=60, temperature=0.7, top_k=6, seed=seed)
    done = speculative_generate(target, NGramProposer(1, 8), PROMPTS[0], params)
    assert done.token_ids == plain_generate(target, PROMPTS[0], params).token_ids
    assert sum(done.accepted) > 0


def test_sampled_answers_of_a_draft_model_have_the_targets_distribution(drafts_from, follows):
    def model(seed, noise):
        config = ModelConfig(
            vocab_size=4, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, head_dim=4, max_position_embeddings=32,
        )  # fmt: skip
        decoder = random_decoder(config, seed=0, std=0.5)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in decoder.parameters():
                weight += noise * torch.randn(weight.shape, generator=generator)
        return decoder

    target, proposer = model(0, 0.0), drafts_from(model(1, 0.3))
    params = SamplingParams(max_tokens=3, temperature=1.3, top_p=0.95)
    runs = [
        speculative_generate(
            target, proposer, [1, 2], SamplingParams(3, 1.3, top_p=0.95, seed=seed), length=2
        )
        for seed in range(800)
    ]
    counts = Counter(tuple(run.token_ids[:2]) for run in runs)
    assert 0 < sum(sum(run.accepted) for run in runs) < sum(sum(run.drafted) for run in runs)

    def p(text):
        with torch.inference_mode():
            return distribution(target(torch.tensor([text]))[0, -1:], [SamplingState(params)])[0]

    cells = {
        (a, b): 800 * float(p([1, 2])[a] * p([1, 2, a])[b]) for a, b in product(range(4), repeat=2)
    }
    assert follows(counts, cells)


def test_it_ends_with_the_end_token_even_amid_a_draft(drafts_from, target):
    params = SamplingParams(max_tokens=40)
    plain = plain_generate(target, PROMPTS[0], params).token_ids
    end = plain[len(plain) // 2]
    done = speculative_generate(
        target, drafts_from(target), PROMPTS[0], params, length=5, eos_ids={end}
    )
    assert done.token_ids == plain[: plain.index(end) + 1]


@pytest.mark.parametrize("kind", ["ngram", "draft"])
def test_it_fills_the_context_and_no_more(drafts_from, target, relative, kind):
    prompt = [number % 20 for number in range(240)]
    params = SamplingParams(max_tokens=100)
    done = speculative_generate(
        target, proposers(drafts_from, target, relative)[kind], prompt, params
    )
    assert len(prompt) + len(done.token_ids) == target.config.max_position_embeddings
    assert done.token_ids == plain_generate(target, prompt, params).token_ids


@settings(max_examples=25)
@given(
    rounds=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 23)), max_size=8)
)
def test_the_draft_models_cache_is_what_a_fresh_one_would_hold(drafts_from, relative, rounds):
    """However many drafts were kept, all of them (whose last was never read) included."""
    proposer, tokens = drafts_from(relative), [3, 4, 5]
    for length, kept, following in rounds:
        draft = propose(proposer, 8, tokens, length)
        assert draft.tokens == propose(drafts_from(relative), 0, tokens, length).tokens
        tokens = [*tokens, *draft.tokens[:kept], following]


def test_several_sequences_at_once_are_drafted_as_each_alone(drafts_from, relative):
    together, alone = drafts_from(relative), drafts_from(relative)
    texts = {key: list(prompt) for key, prompt in enumerate(PROMPTS)}
    for turn in range(5):
        lengths = [(key + turn) % 4 for key in texts]
        states = [
            SamplingState(SamplingParams(temperature=0.8, seed=key))
            if key % 2 else None
            for key in texts
        ]  # fmt: skip
        again = [
            SamplingState(SamplingParams(temperature=0.8, seed=key))
            if key % 2 else None
            for key in texts
        ]  # fmt: skip
        batch = together.propose(
            [Ask(k, texts[k], n, s) for k, n, s in zip(texts, lengths, states, strict=True)]
        )
        for key, length, state, draft in zip(texts, lengths, again, batch, strict=True):
            single = alone.propose([Ask(key, texts[key], length, state)])[0]
            assert draft.tokens == single.tokens
            assert len(draft.tokens) == length
            if state is None or not length:
                assert draft.probabilities is None
            else:
                torch.testing.assert_close(draft.probabilities, single.probabilities)
            texts[key] += [*draft.tokens[: turn % 3], 7]
    for key in (*texts, 99):
        together.forget(key)
    assert together._manager.free == together._manager.blocks


@pytest.mark.parametrize("blocks", [5, 9, 14])
def test_where_pages_run_out_some_get_no_draft_and_none_a_wrong_one(drafts_from, relative, blocks):
    tight = drafts_from(relative, blocks)
    texts = {key: list(prompt) for key, prompt in enumerate(PROMPTS)}
    missing = 0
    for turn in range(12):
        keys = [key for key in texts if (key + turn) % 3]
        drafts = tight.propose([Ask(key, texts[key], 3) for key in keys])
        for key, draft in zip(keys, drafts, strict=True):
            missing += not draft.tokens
            if draft.tokens:
                assert draft == propose(drafts_from(relative), 0, texts[key], 3)
            texts[key] += [*draft.tokens[: turn % 4], 5]
    assert missing or blocks > 9
    for key in texts:
        tight.forget(key)
    assert tight._manager.free == blocks


def test_penalties_count_the_drafts_before(drafts_from, relative):
    """A draft is what the target would draw if it were the draft model: greedy with penalties too."""
    params = SamplingParams(max_tokens=6, repetition_penalty=1.5, presence_penalty=1.0)
    prompt = PROMPTS[2]
    state = SamplingState(params, prompt)
    draft = drafts_from(relative).propose([Ask(0, prompt, 6, state)])[0]
    expected, state = list(prompt), SamplingState(params, prompt)
    for _ in range(6):
        with torch.inference_mode():
            logits = relative(torch.tensor([expected]))[0, -1:]
        token = choose(logits, [state])[0].token
        state.advance(token)
        expected.append(token)
    assert draft == Draft(tuple(expected[len(prompt) :]), None)
    assert len(set(draft.tokens)) > len(set(propose(drafts_from(relative), 0, prompt, 6).tokens))


def test_a_long_prompt_is_read_in_pieces(drafts_from, relative, monkeypatch):
    from llmwright.inference.speculation import draft

    whole = propose(drafts_from(relative), 0, list(range(24)) * 3, 4)
    monkeypatch.setattr(draft, "_CHUNK", 7)
    assert propose(drafts_from(relative), 0, list(range(24)) * 3, 4) == whole


def test_acceptance_is_of_the_drafts_that_were_judged():
    assert Speculation().acceptance is None
    # Behind a rejected draft nothing is judged: 2 of 4 and then 2 of 2.
    assert Speculation(drafted=[5, 2, 0], accepted=[1, 2, 0]).acceptance == 3 / 4


def test_tokens_that_the_target_lacks_are_refused(target):
    params = SamplingParams(logit_bias={24: 1.0})
    with pytest.raises(InputError, match="logit_bias names token 24"):
        speculative_generate(target, NGramProposer(), [1], params)
    with pytest.raises(InputError, match="logit_bias names token 24"):
        plain_generate(target, [1], params)


def test_an_end_frees_what_the_proposer_kept(drafts_from, target):
    plain = plain_generate(target, PROMPTS[0], SamplingParams(max_tokens=8)).token_ids
    for ends in ((), plain[-1:]):
        proposer = drafts_from(target)
        params = SamplingParams(max_tokens=8)
        speculative_generate(target, proposer, PROMPTS[0], params, eos_ids=ends)
        assert proposer._manager.free == proposer._manager.blocks
