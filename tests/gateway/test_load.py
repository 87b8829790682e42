"""Many at once: nothing lost, nothing mixed up, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from types import AsyncGeneratorType
from typing import Any

import httpx
import numpy as np
import openai
from served_models import Letters
from starlette.applications import Starlette

from llmwright.answering import CitedAnswerer
from llmwright.core import Chunk, Delta, Hit, Message, SamplingParams
from llmwright.gateway import create_app
from llmwright.providers import ScriptedModel

Start = Callable[[Starlette], Any]
REQUESTS = 200


def reply(messages: Sequence[Message]) -> str:
    """An answer of its own for every question."""
    question = messages[-1].content.rsplit("Question: ")[-1]
    return " ".join([f"{question}/{word}" for word in range(12)])


class Counted(ScriptedModel):
    """Waits until all requests are in, so that all are open at once."""

    def __init__(self, all_in: int) -> None:
        super().__init__(reply)
        self.barrier = asyncio.Barrier(all_in)
        self.most = 0

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncIterator[Delta]:
        async for delta in super().stream(messages, params):
            if delta.text.rstrip().endswith("/0"):
                self.most = max(self.most, self.running)
                await self.barrier.wait()
            yield delta


def find(question: str, top: int) -> list[Hit]:
    """A passage of its own for every question."""
    text = f"{question}/0 and more."
    return [Hit(Chunk(question, f"doc-{question}", text, 0, len(text), "", "en"), 1.0)]


async def ask_all(api: str) -> list[tuple[str, list[str]]]:
    limits = httpx.Limits(max_connections=REQUESTS, max_keepalive_connections=0)
    http = httpx.AsyncClient(limits=limits, timeout=120)

    async with openai.AsyncOpenAI(
        base_url=api, api_key="any", max_retries=0, http_client=http
    ) as client:

        async def ask(number: int) -> tuple[str, list[str]]:
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": f"q{number}"}], stream=True
            )
            text, sources = "", []
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
                sources = [s["document_id"] for s in (chunk.model_extra or {}).get("sources", [])]
            return text, sources

        return await asyncio.gather(*map(ask, range(REQUESTS)))


async def tasks_left(before: set[asyncio.Task[Any]]) -> int:
    """Tasks of the server's loop that are new since ``before`` and do not end by themselves."""
    new = asyncio.all_tasks() - before - {asyncio.current_task()}
    if not new:
        return 0
    _, pending = await asyncio.wait(new, timeout=30)
    return len(pending)


async def current_tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks()


def kept() -> Counter[str]:
    """What is alive of the server's own objects and streams, by kind."""
    gc.collect()
    ours = ("llmwright", "starlette")
    return Counter(
        type(thing).__qualname__
        for thing in gc.get_objects()
        if type(thing) is AsyncGeneratorType
        or str(type(thing).__module__).partition(".")[0] in ours
    )


def test_two_hundred_streams_at_once(start: Start) -> None:
    model = Counted(REQUESTS)
    server = start(create_app({"m": CitedAnswerer(model, find)}))
    before = server.on_loop(current_tasks())
    first: Counter[str] | None = None
    for _ in range(3):
        answers = asyncio.run(ask_all(server.api))
        for number, (text, sources) in enumerate(answers):
            expected = reply([Message("user", f"q{number}")])
            assert text.removesuffix(" [1]") == expected
            assert sources == [f"doc-q{number}"]
        assert server.on_loop(tasks_left(before)) == 0
        assert model.running == 0
        model.calls.clear()  # the script's own memory is not the server's
        first = first or kept()  # the first round makes what is made once
        assert kept() == first
    assert model.most == REQUESTS


def test_an_embedder_has_one_batch_at_a_time(start: Start) -> None:
    """The first batch ends only when the second has long been asked for: were it let in, both
    would be in."""
    inside = most = asked = 0
    second = threading.Event()

    class Watched(Letters):
        @property
        def dimension(self) -> int:  # type: ignore[override]
            nonlocal asked
            asked += 1
            if asked == 2:
                asyncio.get_running_loop().create_task(turns())
            return 26

        def embed(self, texts: Sequence[str], *, kind: Any = "document") -> np.ndarray:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            assert second.wait(30)
            inside -= 1
            return super().embed(texts, kind=kind)

    async def turns() -> None:
        for _ in range(200):  # of the loop: enough for the second to come as far as it may
            await asyncio.sleep(0)
        second.set()

    server = start(create_app({}, embedders={"a": Watched()}))

    async def ask() -> list[int]:
        body = {"model": "a", "input": "x"}
        async with httpx.AsyncClient(base_url=server.api, timeout=60) as http:
            answers = await asyncio.gather(*(http.post("/embeddings", json=body) for _ in "ab"))
            return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [200, 200]
    assert most == 1
