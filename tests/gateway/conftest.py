"""A real server in a thread, with models that answer and models that fail, and the real client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import uvicorn
from served_models import HIT, KEY, OTHER, Broken, Letters, Recording
from starlette.applications import Starlette

from llmwright.answering import CitedAnswerer
from llmwright.core import CapacityError, ContextLengthError, Embedder, InputError, UpstreamError
from llmwright.gateway import bind, create_app
from llmwright.providers import ScriptedModel


@dataclass
class Running:
    """``loop`` is the server's event loop, so that tests can look at its tasks."""

    url: str
    port: int
    loop: asyncio.AbstractEventLoop

    @property
    def api(self) -> str:
        return f"{self.url}/v1"

    def on_loop(self, coroutine):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[[Starlette], Running]]:
    stops: list[Callable[[], None]] = []

    def begin(app: Starlette) -> Running:
        # Clients may connect as soon as the socket listens: nothing to wait for.
        listener = bind("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        loop = asyncio.new_event_loop()

        def run() -> None:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(server.serve([listener]))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

        thread = threading.Thread(target=run)
        port = listener.getsockname()[1]
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive(), "the server did not stop"

        stops.append(stop)
        return Running(f"http://127.0.0.1:{port}", port, loop)

    yield begin
    for stop in stops:
        stop()


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording(lambda messages: " | ".join(f"{m.role}: {m.content}" for m in messages))


@pytest.fixture(scope="module")
def server(start: Callable[[Starlette], Running], recording: Recording) -> Any:
    cited = CitedAnswerer(
        ScriptedModel(lambda messages: "Rank is the width of the matrices. Ünïcode\u2028 [7]!"),
        lambda query, top: [OTHER, HIT],
    )
    models = {
        "cited": cited,
        "org/echo": recording,
        "full": Broken(CapacityError("every seat is taken", where="/secret")),
        "long": Broken(ContextLengthError("9000 tokens", where="/secret", fix="shorten it")),
        "upstream": Broken(UpstreamError("no answer in 5 s")),
        "bad": Broken(InputError("too odd")),
        "bug": Broken(RuntimeError("secret /path/to/file")),
        "late": Broken(UpstreamError("it broke off"), after=2),
        "late-bug": Broken(RuntimeError("secret /path/to/file"), after=2),
        "unfinished": ScriptedModel(lambda m: ""),
    }
    embedder = Letters()
    assert isinstance(embedder, Embedder)
    return start(create_app(models, embedders={"letters": embedder}, api_key=KEY))


@pytest.fixture(scope="module")
def client(server: Any) -> Any:
    with openai.OpenAI(base_url=server.api, api_key=KEY, max_retries=0) as client:
        yield client
