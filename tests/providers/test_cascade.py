"""A cascade gives the small model's answer or the large one's, and says what both cost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from llmwright.core import ChatModel, Completion, Delta, InputError, Message, Usage
from llmwright.inference.speculation import least_confidence
from llmwright.providers import CascadeModel

ASK = [Message("user", "How deep is the lake?")]


class Answers:
    """A model with one answer, in two pieces."""

    def __init__(self, text, logprobs=(), usage=None):
        self.name = text.split()[0]
        self.answer = Completion(text, usage=usage or Usage(5, 2), logprobs=tuple(logprobs))
        self.asked = 0

    async def complete(self, messages, params=None):
        self.asked += 1
        return self.answer

    async def stream(self, messages, params=None):
        self.asked += 1
        half = len(self.answer.text) // 2
        yield Delta(self.answer.text[:half])
        yield Delta(self.answer.text[half:], self.answer)


def pieces_of(model):
    async def run():
        return [delta async for delta in model.stream(ASK)]

    return asyncio.run(run())


def test_a_sure_answer_is_kept_and_the_large_model_not_asked():
    small, large = Answers("40 metres", [-0.1, -0.3]), Answers("About 38 metres")
    cascade = CascadeModel(small, large, threshold=-0.2)
    assert isinstance(cascade, ChatModel)
    assert asyncio.run(cascade.complete(ASK)) == small.answer
    assert (large.asked, cascade.deferred) == (0, 0)


def test_a_doubtful_answer_is_given_by_the_large_model_and_costs_both():
    small, large = Answers("40 metres", [-0.1, -0.5]), Answers("About 38 metres", usage=Usage(5, 9))
    cascade = CascadeModel(small, large, threshold=-0.2)
    expected = replace(large.answer, usage=Usage(10, 11))
    assert asyncio.run(cascade.complete(ASK)) == expected
    pieces = pieces_of(cascade)
    assert [piece.text for piece in pieces] == ["About 3", "8 metres"]
    assert pieces[-1].completion == expected
    assert cascade.deferred == 2


def test_one_doubtful_token_is_enough_for_the_least_confidence():
    small, large = Answers("40 metres", [-0.01, -0.9, -0.01]), Answers("About 38 metres")
    assert asyncio.run(CascadeModel(small, large, -0.5).complete(ASK)) == small.answer
    careful = CascadeModel(small, large, -0.5, least_confidence, name="careful")
    assert asyncio.run(careful.complete(ASK)).text == "About 38 metres"
    assert repr(careful) == "CascadeModel('careful')"


def test_a_small_model_that_reports_nothing_is_refused():
    with pytest.raises(InputError, match="log-probabilities"):
        asyncio.run(CascadeModel(Answers("a"), Answers("b"), -1.0).complete(ASK))


def test_over_real_models(tiny_model_path):
    from llmwright.core import SamplingParams
    from llmwright.providers import LocalModel

    async def run():
        model = LocalModel.open(str(tiny_model_path))
        try:
            alone = await model.complete(ASK, SamplingParams(max_tokens=6))
            kept = await CascadeModel(model, model, -100.0).complete(ASK, SamplingParams(6))
            passed = await CascadeModel(model, model, 0.0).complete(ASK, SamplingParams(6))
        finally:
            await model.aclose()
        return alone, kept, passed

    alone, kept, passed = asyncio.run(run())
    assert kept == alone
    assert passed.text == alone.text
    assert passed.usage == alone.usage + alone.usage
