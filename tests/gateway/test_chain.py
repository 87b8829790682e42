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


def test_answers_and_parameters_pass_unchanged_through_two_gateways(start: Start) -> None:
    class Recording(ScriptedModel):
        seen: SamplingParams | None = None

        async def stream(self, messages, params=None) -> AsyncIterator[Delta]:  # type: ignore[no-untyped-def]
            Recording.seen = params
            async for delta in super().stream(messages, params):
                yield delta

    model = Recording(lambda messages: "Ünï six")
    inner = start(create_app({"m": model}))
    outer = start(create_app({"far": RemoteModel(inner.api, "m")}))
    far = RemoteModel(outer.api, "far")

    def asked(**given: Any) -> Any:
        params = SamplingParams(**given)

        async def both() -> tuple[Any, list[Delta]]:
            return await far.complete(ASK, params), [d async for d in far.stream(ASK, params)]

        whole, deltas = asyncio.run(both())
        assert deltas[-1].completion == whole
        assert tuple(t for d in deltas for t in d.top_logprobs) == whole.top_logprobs
        return whole, params

    for given in (
        {"temperature": 0.5, "top_k": 3, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.9},
        {"repetition_penalty": 1.5, "presence_penalty": 0.5, "logit_bias": {5: -1.0, 3: 2.0}},
        {"n": 3, "temperature": 1.0, "best_of": 5, "seed": 3, "frequency_penalty": -0.5},
        {"logprobs": 1, "min_tokens": 2, "stop_token_ids": (4, 5), "ignore_eos": True},
        {"n": 4, "num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"penalty_alpha": 0.5, "top_k": 4},
        {"json_schema": '{"type": "object", "properties": {"b": true, "a": true}}'},
        {"regex": "[a-z]+"},
        {"grammar": 'start: "a"'},
    ):
        whole, params = asked(**given)
        assert Recording.seen == params
        assert whole.text == "Ünï six"
        assert len(whole.alternatives) == params.n - 1
    whole, _ = asked(logprobs=1, n=2, temperature=1.0)
    (expected, *_) = [asyncio.run(model.complete(ASK, SamplingParams(logprobs=1)))]
    assert whole.top_logprobs == expected.top_logprobs
    assert whole.alternatives[0].top_logprobs == expected.top_logprobs
    assert whole.logprobs == (0.0, 0.0)


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
