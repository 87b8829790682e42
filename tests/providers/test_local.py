"""The local model is a ChatModel: its template around the generator."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
import torch

from llmwright.core import CapacityError, ChatModel, Message, SamplingParams
from llmwright.modeling import load_model
from llmwright.providers import LocalModel, open_chat_model
from llmwright.training import LoraSettings

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


@pytest.fixture
def adapter(tiny_model_path, tmp_path):
    """A LoRA folder whose factors do something."""
    from llmwright.training import add_lora, lora_parameters, save_adapter

    decoder = load_model(str(tiny_model_path), "float32").decoder
    lora = LoraSettings(rank=4)
    add_lora(decoder, lora)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in lora_parameters(decoder).values():
            parameter.normal_(0, 0.3, generator=noise)
    save_adapter(decoder, lora, str(tiny_model_path), tmp_path / "adapter")
    return tmp_path / "adapter"


def test_adapters_on_one_engine_answer_as_if_merged(tiny_model_path, adapter):
    params = SamplingParams(max_tokens=12, ignore_eos=True)
    path = str(tiny_model_path)

    async def ask(*models):
        return await asyncio.gather(*(model.complete(QUESTION, params) for model in models))

    async def answers(*models):
        given = await ask(*models)
        await models[0].aclose()
        return [answer.token_ids for answer in given]

    base = LocalModel.open(path, dtype="float32")
    together = asyncio.run(answers(base, base.with_adapter("support", adapter)))
    merged = LocalModel.open(path, adapter=adapter, dtype="float32")
    plain = LocalModel.open(path, dtype="float32")
    alone = asyncio.run(answers(plain)) + asyncio.run(answers(merged))
    assert together == alone
    assert together[0] != together[1]


def test_several_answers_with_log_probabilities(model):
    params = SamplingParams(max_tokens=8, temperature=1.0, seed=3, n=3, logprobs=2)
    done = asyncio.run(model.complete(QUESTION, params))
    assert len(done.alternatives) == 2
    for answer in (done, *done.alternatives):
        assert "".join(token.text for token in answer.top_logprobs) == answer.text or any(
            "\ufffd" in token.text for token in answer.top_logprobs
        )
        for token in answer.top_logprobs:
            assert len(token.top) == 2
            assert token.top[0].logprob >= token.top[1].logprob
    total = sum(len(answer.token_ids) for answer in (done, *done.alternatives))
    assert done.usage.completion_tokens == total
