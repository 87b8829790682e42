"""Streams are let go of by their reader: at their end, where it leaves, and when it fails."""

from __future__ import annotations

import asyncio

import pytest

from llmwright.core import Completion, Delta, closing, completed


class Answer:
    """A stream of these deltas that counts how often it was let go of."""

    def __init__(self, *deltas: Delta) -> None:
        self.deltas = deltas
        self.closed = 0

    async def stream(self):
        try:
            for delta in self.deltas:
                yield delta
        finally:
            self.closed += 1


WHOLE = Completion("ab")


def test_the_whole_answer_is_that_of_the_last_delta_and_the_stream_is_closed():
    answer = Answer(Delta("a"), Delta("b", WHOLE), Delta("read too far"))
    assert asyncio.run(completed(answer.stream())) is WHOLE
    assert answer.closed == 1


def test_a_stream_without_its_end_is_a_mistake_of_the_program():
    with pytest.raises(AssertionError, match="ends with its completion"):
        asyncio.run(completed(Answer(Delta("a")).stream()))


def test_leaving_early_closes_at_once():
    async def run():
        left, failed = Answer(Delta("a"), Delta("b")), Answer(Delta("a"), Delta("b"))
        async with closing(left.stream()) as deltas:
            async for _ in deltas:
                break
            assert left.closed == 0
        assert left.closed == 1
        with pytest.raises(ZeroDivisionError):
            async with closing(failed.stream()) as deltas:
                async for _ in deltas:
                    _ = 1 / 0
        assert failed.closed == 1

    asyncio.run(run())


def test_an_iterator_that_cannot_be_closed_is_read_as_well():
    class Once:
        def __init__(self) -> None:
            self.left = [Delta("ab", WHOLE)]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    assert asyncio.run(completed(Once())) is WHOLE
