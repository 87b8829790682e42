"""The engine gives what the plain loop gives, to everyone who asks, whatever else goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from engine_asks import Endless, collect, prompt_of, without_eos
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import CapacityError, InputError, SamplingParams
from llmwright.inference.decoding import SamplingState, choose
from llmwright.inference.engine import Engine
from llmwright.inference.native import native_available
from llmwright.modeling import extend_context

SAMPLED = SamplingParams(max_tokens=12, temperature=1.0, top_k=50, top_p=0.95, seed=5)


def plain_loop(model, prompt, params):
    """Forward the whole text, choose, append; no cache, no batch. Gives ids and log-probabilities."""
    ids, logprobs = list(prompt), []
    state = SamplingState(params, prompt, model.tokenizer)
    with torch.inference_mode():
        for _ in range(params.max_tokens):
            logits = model.decoder(torch.tensor([ids]))[0, -1]
            ids.append(choose(logits[None], [state])[0].token)
            state.advance(ids[-1])
            logprobs.append(float(logits.log_softmax(-1)[ids[-1]]))
            if (
                ids[-1] in model.tokenizer.eos_ids
                or len(ids) == model.config.max_position_embeddings
            ):
                break
    return ids[len(prompt) :], logprobs


def ids_of(tokens):
    return [token.id for token in tokens]


@pytest.fixture(scope="module", params=["torch", "native"])
def engine(tiny, request):
    if request.param == "native" and (reason := native_available().reason):
        pytest.skip(f"the compiled kernels cannot be used: {reason}")
    with Engine(tiny, max_sequences=8, token_budget=16, runner=request.param) as running:
        yield running


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.booleans())
def test_alone_equals_the_plain_loop(tiny, engine, number, length, greedy):
    params = SamplingParams(max_tokens=8) if greedy else replace(SAMPLED, seed=number)
    tokens = asyncio.run(collect(engine, prompt_of(number, length), params))
    ids, logprobs = plain_loop(tiny, prompt_of(number, length), params)
    assert ids_of(tokens) == ids
    torch.testing.assert_close([t.logprob for t in tokens], logprobs, atol=1e-4, rtol=1e-4)
    assert [t.finish_reason is None for t in tokens[:-1]] == [True] * (len(tokens) - 1)
    expected = "stop" if ids[-1] in tiny.tokenizer.eos_ids else "length"
    assert tokens[-1].finish_reason == expected


def test_two_hundred_at_once_all_finish_and_none_is_mixed_up(tiny):
    def params(number):
        return SAMPLED if number % 2 else SamplingParams(max_tokens=6 + number % 7)

    async def everyone():
        return await asyncio.gather(
            *(collect(running, prompt_of(n), params(n)) for n in range(200))
        )

    with Engine(tiny) as running:
        answers = asyncio.run(everyone())
        assert (running.stats().running, running.stats().waiting) == (0, 0)
        assert running.stats().generated_tokens == sum(map(len, answers))
    for number, tokens in list(enumerate(answers))[::7]:
        assert ids_of(tokens) == plain_loop(tiny, prompt_of(number), params(number))[0]


def test_text_is_that_of_the_tokens_and_ends_at_eos(tiny, engine):
    tokens = asyncio.run(collect(engine, prompt_of(1), SamplingParams(max_tokens=40)))
    assert "".join(t.text for t in tokens) == tiny.tokenizer.decode(ids_of(tokens))
    # Make a token that came in the middle the end token: the answer ends there, without its text.
    end = tokens[5].id
    first = ids_of(tokens).index(end)
    ending = replace(tiny, tokenizer=Endless(tiny.tokenizer))
    ending.tokenizer.eos_ids = frozenset([end])
    with Engine(ending) as running:
        cut = asyncio.run(collect(running, prompt_of(1), SamplingParams(max_tokens=40)))
    assert ids_of(cut) == ids_of(tokens)[: first + 1]
    assert cut[-1].finish_reason == "stop"
    assert "".join(t.text for t in cut) == tiny.tokenizer.decode(ids_of(cut)[:-1])


@pytest.mark.parametrize("width", [1, 2, 5, 9])
def test_stop_strings_cut_the_text_wherever_they_fall(tiny, width):
    with Engine(without_eos(tiny)) as running:
        whole = asyncio.run(collect(running, prompt_of(2), SamplingParams(max_tokens=30)))
        text = "".join(t.text for t in whole)
        stop = text[11 : 11 + width]
        params = SamplingParams(max_tokens=30, stop=("\x00never", stop))
        cut = asyncio.run(collect(running, prompt_of(2), params))
    assert cut[-1].finish_reason == "stop"
    assert "".join(t.text for t in cut) == text[: text.index(stop)]
    assert ids_of(cut) == ids_of(whole)[: len(cut)]  # and nothing was generated after it
    joined = "".join(tiny.tokenizer.decode(ids_of(cut)))
    assert stop in joined
    assert stop not in tiny.tokenizer.decode(ids_of(cut)[:-1])


def test_held_back_text_is_given_out_at_the_end(tiny):
    with Engine(without_eos(tiny)) as running:
        whole = asyncio.run(collect(running, prompt_of(2), SamplingParams(max_tokens=20)))
        text = "".join(t.text for t in whole)
        params = SamplingParams(max_tokens=20, stop=(text[-3:] + "\x00",))
        tokens = asyncio.run(collect(running, prompt_of(2), params))
    assert "".join(t.text for t in tokens) == text
    assert tokens[-1].finish_reason == "length"


def test_the_context_is_filled_to_the_last_place_and_not_beyond(tiny):
    small = without_eos(extend_context(tiny, None, 40))
    with Engine(small, token_budget=16) as running:
        tokens = asyncio.run(collect(running, prompt_of(3, 33), SamplingParams(max_tokens=100)))
        assert len(tokens) == 7
        assert tokens[-1].finish_reason == "length"
        assert (
            ids_of(tokens) == plain_loop(small, prompt_of(3, 33), SamplingParams(max_tokens=7))[0]
        )
        one = asyncio.run(collect(running, prompt_of(3, 39), SamplingParams(max_tokens=100)))
        assert len(one) == 1
        with pytest.raises(CapacityError, match=r"40 tokens, and the model's context holds 40"):
            asyncio.run(collect(running, prompt_of(3, 40), None))


@pytest.mark.parametrize(("prompt", "why"), [([], "empty"), ([400], "0 to 399"), ([-1], "0 to")])
def test_bad_prompts(engine, prompt, why):
    with pytest.raises(InputError, match=why):
        asyncio.run(collect(engine, prompt, None))


def test_unseeded_requests_differ_and_seeded_ones_repeat(tiny):
    with Engine(without_eos(tiny)) as running:

        def run(seed):
            params = replace(SAMPLED, seed=seed, max_tokens=20)
            return ids_of(asyncio.run(collect(running, prompt_of(4), params)))

        assert run(1) == run(1)
        assert run(-3) == run(-3)
        runs = [run(1), run(2), run(None), run(None)]
        assert all(a != b for a, b in pairwise(runs))


def test_a_search_is_cut_at_a_stop_string_too(tiny):
    params = SamplingParams(max_tokens=20, num_beams=3, n=2)
    with Engine(without_eos(tiny)) as running:
        whole = asyncio.run(collect(running, prompt_of(2), params))
        text = "".join(t.text for t in whole if t.answer == 0)
        stop = text[len(text) // 2 :][:2]
        cut = asyncio.run(collect(running, prompt_of(2), replace(params, stop=(stop,))))
    first = [t for t in cut if t.answer == 0]
    assert "".join(t.text for t in first) == text[: text.index(stop)]
    assert [t.finish_reason for t in first[:-1]] == [None] * (len(first) - 1)
    assert first[-1].finish_reason == "stop"
    assert {t.answer for t in cut} == {0, 1}
