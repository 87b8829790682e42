"""A real server in a thread, for the real clients to talk to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import uvicorn
from starlette.applications import Starlette

from llmwright.gateway import bind


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
