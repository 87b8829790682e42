"""A client that hangs up frees what worked for it. No sleeps: everything waits for events."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from llmwright.answering import CitedAnswerer
from llmwright.core import Chunk, Completion, Delta, Hit, Message, SamplingParams
from llmwright.gateway import create_app
from llmwright.gateway.hangup import ClientGoneError, Shutdown, ShutdownError, while_connected

Start = Callable[[Starlette], Any]
HIT = Hit(Chunk("c", "d", "text", 0, 4), 1.0)


class Endless:
    """Streams for ever, or waits for ever; tells when it began and when it was let go."""

    name = "endless"

    def __init__(self, silent: bool = False) -> None:
        self.silent = silent
        self.began, self.ended = threading.Event(), threading.Event()

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        async for _ in self.stream(messages, params):
            pass
        raise AssertionError

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncIterator[Delta]:
        try:
            self.began.set()
            if self.silent:
                await asyncio.Event().wait()
            while True:
                await asyncio.sleep(0)
                yield Delta("word ")
        finally:
            await asyncio.sleep(0)  # letting go may take a turn of the loop
            self.ended.set()


def request_bytes(stream: bool) -> bytes:
    asked = {"model": "m", "messages": [{"role": "user", "content": "q"}], "stream": stream}
    body = json.dumps(asked).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@pytest.mark.parametrize("cited", [False, True])
def test_leaving_a_stream_closes_it(start: Start, cited: bool) -> None:
    endless = Endless()
    model = CitedAnswerer(endless, lambda query, top: [HIT]) if cited else endless
    server = start(create_app({"m": model}))
    body = {"messages": [{"role": "user", "content": "q"}], "stream": True}
    with httpx.stream("POST", f"{server.api}/chat/completions", json=body) as answer:
        lines = answer.iter_lines()  # kept: a generator let go closes the connection
        assert next(lines).startswith("data: ")
        assert not endless.ended.is_set()
    assert endless.ended.wait(30)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("cited", [False, True])
def test_leaving_before_the_first_word_stops_the_work(
    start: Start, stream: bool, cited: bool
) -> None:
    endless = Endless(silent=True)
    model = CitedAnswerer(endless, lambda query, top: [HIT]) if cited else endless
    server = start(create_app({"m": model}))
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request_bytes(stream))
        assert endless.began.wait(30)
        assert not endless.ended.is_set()
    assert endless.ended.wait(30)


def test_a_slow_reader_holds_the_model_back(start: Start) -> None:
    """What the client does not read is not written: memory does not grow with it."""
    endless = Endless()
    pieces = 0

    class Counting:
        name = "counting"
        complete = endless.complete

        async def stream(self, messages, params=None):  # type: ignore[no-untyped-def]
            nonlocal pieces
            async for delta in endless.stream(messages, params):
                pieces += 1
                yield delta

    async def settled() -> int:
        """Pieces made by the time that none was made in 2,000 turns of the loop."""
        quiet, seen = 0, -1
        while quiet < 2000:
            quiet, seen = (quiet + 1, seen) if seen == pieces else (0, pieces)
            await asyncio.sleep(0)
        return pieces

    server = start(create_app({"m": Counting()}))
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(request_bytes(stream=True))
        assert endless.began.wait(30)
        assert 0 < server.on_loop(settled()) < 1_000_000
        assert not endless.ended.is_set()
    assert endless.ended.wait(30)


def connected() -> Any:
    """A ``receive`` of a client that stays."""

    async def receive() -> dict[str, str]:
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def test_work_for_one_who_stays_is_returned_and_its_errors_raised() -> None:
    async def right() -> int:
        return 3

    async def wrong() -> int:
        raise KeyError("x")

    assert asyncio.run(while_connected(connected(), right(), Shutdown())) == 3
    with pytest.raises(KeyError):
        asyncio.run(while_connected(connected(), wrong(), Shutdown()))


def test_work_for_one_who_left_is_over_when_the_call_returns() -> None:
    log: list[str] = []

    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            log.append("let go")

    async def main() -> None:
        with pytest.raises(ClientGoneError):
            await while_connected(gone, work(), Shutdown())
        log.append("returned")

    asyncio.run(main())
    assert log == ["let go", "returned"]


@pytest.mark.parametrize("how", ["cancelled", "shut down", "shut down before"])
def test_a_shutdown_leaves_nothing_running(how: str) -> None:
    log: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.append("let go")

    async def main() -> int:
        shutdown = Shutdown()
        if how == "shut down before":
            shutdown.begin()
        task = asyncio.create_task(while_connected(connected(), work(), shutdown))
        for _ in range(3):  # let the work begin
            await asyncio.sleep(0)
        if how == "cancelled":
            task.cancel()
        shutdown.begin()
        with pytest.raises(asyncio.CancelledError if how == "cancelled" else ShutdownError):
            await task
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    assert log == ["let go"]
