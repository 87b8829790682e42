"""The scripted model keeps the promises of a ChatModel."""

from __future__ import annotations

import asyncio

import pytest

from llmwright.core import ChatModel, Message, SamplingParams
from llmwright.providers import ScriptedModel

QUESTION = [Message("user", "one two  three")]


def echo(messages):
    return messages[-1].content


async def drain(model, params=None):
    return [delta async for delta in model.stream(QUESTION, params)]


def test_is_a_chat_model():
    assert isinstance(ScriptedModel(echo), ChatModel)


def test_pieces_join_to_the_completion_and_only_the_last_carries_it():
    deltas = asyncio.run(drain(ScriptedModel(echo)))
    assert [d.text for d in deltas] == ["one ", "two  ", "three", ""]
    assert [d.completion is not None for d in deltas] == [False, False, False, True]
    done = deltas[-1].completion
    assert done.text == "one two  three"
    assert done.finish_reason == "stop"
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (3, 3)


def test_max_tokens_and_stop_are_obeyed():
    model = ScriptedModel(echo)
    short = asyncio.run(model.complete(QUESTION, SamplingParams(max_tokens=2)))
    assert (short.text, short.finish_reason) == ("one two  ", "length")
    cut = asyncio.run(model.complete(QUESTION, SamplingParams(stop=("wo", "three"))))
    assert (cut.text, cut.finish_reason) == ("one t", "stop")


def test_several_answers_and_log_probabilities():
    replies = iter(["one two", "three", "four"] * 2)
    model = ScriptedModel(lambda messages: next(replies))
    params = SamplingParams(n=3, temperature=1.0, logprobs=1)
    whole = asyncio.run(model.complete(QUESTION, params))
    assert [a.text for a in (whole, *whole.alternatives)] == ["one two", "three", "four"]
    assert whole.usage.completion_tokens == 4
    assert [(t.text, t.logprob, t.top[0].text) for t in whole.top_logprobs] == [
        ("one ", 0.0, "one "), ("two", 0.0, "two"),
    ]  # fmt: skip
    deltas = asyncio.run(drain(model, params))
    assert deltas[-1].completion == whole
    assert tuple(t for d in deltas for t in d.top_logprobs) == whole.top_logprobs


def test_streams_interleave():
    async def both():
        order = []

        async def read(tag):
            async for delta in model.stream(QUESTION):
                order.append((tag, delta.text))

        await asyncio.gather(read("a"), read("b"))
        return order

    model = ScriptedModel(echo)
    order = asyncio.run(both())
    assert [tag for tag, _ in order[:4]] == ["a", "b", "a", "b"]


def test_abandoned_stream_is_let_go():
    async def abandon():
        stream = model.stream(QUESTION)
        await anext(stream)
        assert model.running == 1
        await stream.aclose()

    model = ScriptedModel(echo)
    asyncio.run(abandon())
    assert model.running == 0


def test_what_reply_raises_reaches_the_caller():
    def broken(messages):
        raise LookupError("no such line in the script")

    model = ScriptedModel(broken)
    with pytest.raises(LookupError, match="no such line"):
        asyncio.run(model.complete(QUESTION))
    assert model.running == 0
