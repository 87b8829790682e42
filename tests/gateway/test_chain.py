"""A gateway behind a gateway: our own client of the API against our own server of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.applications import Starlette

from llmwright.core import Delta, Message, SamplingParams, UpstreamError
from llmwright.gateway import create_app
from llmwright.providers import RemoteModel, ScriptedModel

Start = Callable[[Starlette], Any]
ASK = [Message("system", "Be brief."), Message("user", "ü\u2028?")]


def test_an_answer_passes_unchanged_through_two_gateways(start: Start) -> None:
    model = ScriptedModel(
        lambda messages: f"{messages[0].content} Ж {messages[-1].content} three four"
    )
    inner = start(create_app({"m": model}, api_key="inner"))
    outer = start(create_app({"far": RemoteModel(inner.api, "m", "inner")}, api_key="outer"))
    far = RemoteModel(outer.api, "far", "outer")
    params = SamplingParams(max_tokens=4, stop=("four",), seed=1)

    async def both() -> tuple[Any, list[Delta]]:
        whole = await far.complete(ASK, params)
        return whole, [delta async for delta in far.stream(ASK, params)]

    whole, deltas = asyncio.run(both())
    expected = asyncio.run(model.complete(ASK, params))
    assert (whole.text, whole.finish_reason, whole.usage) == (
        expected.text,
        expected.finish_reason,
        expected.usage,
    )
    assert deltas[-1].completion == whole
    assert "".join(delta.text for delta in deltas) == whole.text
    with pytest.raises(UpstreamError):
        asyncio.run(RemoteModel(outer.api, "far", "wrong", retries=0).complete(ASK))


def test_hanging_up_is_passed_on(start: Start) -> None:
    ended = threading.Event()

    class Endless(ScriptedModel):
        async def stream(self, messages, params=None) -> AsyncIterator[Delta]:  # type: ignore[no-untyped-def]
            try:
                while True:
                    await asyncio.sleep(0)
                    yield Delta("word ")
            finally:
                ended.set()

    inner = start(create_app({"m": Endless(lambda messages: "")}))
    outer = start(create_app({"far": RemoteModel(inner.api, "m")}))

    async def leave() -> str:
        stream = RemoteModel(outer.api, "far").stream(ASK)
        first = await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        return first.text

    assert asyncio.run(leave()).startswith("word")
    assert ended.wait(30)
