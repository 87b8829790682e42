"""Batches keep places, bound what runs at once, and let one failure be one failure."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from llmwright.core import Completion, InputError, Message
from llmwright.providers import ScriptedModel, generate_many

CONVERSATIONS = [[Message("user", f"{number} " * (number % 5 + 1))] for number in range(40)]


def echo(messages):
    return messages[-1].content


class Counting(ScriptedModel):
    most = 0

    async def complete(self, messages, params=None):
        self.most = max(self.most, self.running + 1)
        return await super().complete(messages, params)


def test_every_answer_stands_in_its_place_and_few_run_at_once():
    async def run():
        return {
            place: answer.text
            async for place, answer in generate_many(model, CONVERSATIONS, concurrency=7)
        }

    model = Counting(echo)
    assert asyncio.run(run()) == {n: c[0].content for n, c in enumerate(CONVERSATIONS)}
    assert model.most == 7


def test_an_expected_error_takes_its_place_and_an_unexpected_one_ends_the_run():
    def picky(messages):
        if messages[0].content.startswith("3 "):
            raise error
        return "fine"

    async def run():
        return dict([item async for item in generate_many(model, CONVERSATIONS, concurrency=4)])

    model = ScriptedModel(picky)
    error = InputError("three is no good")
    answers = asyncio.run(run())
    assert len(answers) == 40
    assert answers[3] is error
    assert all(isinstance(answers[n], Completion) for n in range(40) if n != 3)
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
    assert model.running == 0


def test_leaving_cancels_what_is_under_way():
    class Stuck(ScriptedModel):
        cancelled = 0

        async def complete(self, messages, params=None):
            if messages is not CONVERSATIONS[0]:
                try:
                    await asyncio.Event().wait()
                finally:
                    self.cancelled += 1
            return await super().complete(messages, params)

    async def run():
        async with asyncio.timeout(30):
            async with aclosing(generate_many(model, CONVERSATIONS, concurrency=5)) as answers:
                assert (await anext(answers))[0] == 0
                await asyncio.sleep(0)
            return model.cancelled

    model = Stuck(echo)
    assert asyncio.run(run()) == 5
    assert asyncio.run(collect_nothing()) == []


async def collect_nothing():
    return [item async for item in generate_many(ScriptedModel(echo), [])]
