"""The local model is a ChatModel: its template around the generator."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
import torch

from llmwright.core import CapacityError, ChatModel, Message, SamplingParams
from llmwright.modeling import load_model
from llmwright.providers import LocalModel, open_chat_model

QUESTION = [Message("system", "Be brief."), Message("user", "What is LoRA?")]


@pytest.fixture(scope="module")
def model(tiny_model_path):
    opened = open_chat_model(str(tiny_model_path), dtype="float32")
    yield opened
    asyncio.run(opened.aclose())


def run(stream):
    async def collect():
        return [delta async for delta in stream]

    return asyncio.run(collect())


def test_stream_and_complete_agree_and_tell_all(model):
    assert isinstance(model, ChatModel)
    params = SamplingParams(max_tokens=60)
    deltas = run(model.stream(QUESTION, params))
    done = deltas[-1].completion
    assert all(delta.completion is None and delta.text for delta in deltas[:-1])
    assert "".join(delta.text for delta in deltas) == done.text
    assert done == asyncio.run(model.complete(QUESTION, params))
    assert done.usage.prompt_tokens == len(model.model.tokenizer.encode_chat(QUESTION))
    assert done.usage.completion_tokens == len(done.token_ids) == len(done.logprobs)
    ended = done.token_ids[-1] in model.model.tokenizer.eos_ids
    assert done.finish_reason == ("stop" if ended else "length")
    assert done.text == model.model.tokenizer.decode(done.token_ids)
    assert all(logprob <= 0 for logprob in done.logprobs)


def test_the_answer_continues_the_rendered_conversation(model):
    prompt = model.model.tokenizer.encode_chat(QUESTION)
    done = asyncio.run(model.complete(QUESTION, SamplingParams(max_tokens=1)))
    with torch.inference_mode():
        logits = model.model.decoder(torch.tensor([prompt]))[0, -1]
    assert done.token_ids == (int(logits.argmax()),)


def test_a_prompt_beyond_the_context_is_refused_before_the_first_piece(model):
    with pytest.raises(CapacityError, match="the model's context holds 4096"):
        run(model.stream([Message("user", "word " * 9000)]))


def test_leaving_a_stream_frees_the_engine(model):
    async def leave():
        async with aclosing(model.stream(QUESTION, SamplingParams(max_tokens=3000))) as deltas:
            await anext(deltas)
        # The engine answers the next one although the first would have run for long.
        await model.complete(QUESTION, SamplingParams(max_tokens=2))

    before = model.stats().generated_tokens
    asyncio.run(leave())
    assert model.stats().generated_tokens - before < 1000


def test_many_conversations_at_once(model):
    params = SamplingParams(max_tokens=6)
    questions = [[Message("user", f"question {number}")] for number in range(60)]

    async def together():
        return await asyncio.gather(*(model.complete(q, params) for q in questions))

    answers = asyncio.run(together())
    for question, answer in zip(questions[::7], answers[::7], strict=True):
        assert asyncio.run(model.complete(question, params)).token_ids == answer.token_ids


def test_the_real_model_answers(smollm2_path):
    """A fact that the weights know, so template, weights, cache and end token fit together."""
    loaded = load_model(smollm2_path, "float32")

    async def ask():
        async with aclosing(LocalModel(loaded, "smollm2")) as opened:
            question = [Message("user", "What is the capital of France? Answer in one word.")]
            return await opened.complete(question, SamplingParams(max_tokens=12))

    done = asyncio.run(ask())
    assert "Paris" in done.text
    assert done.finish_reason == "stop"
    assert done.usage.completion_tokens <= 12
