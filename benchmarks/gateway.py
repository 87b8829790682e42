"""What the gateway costs: requests per second beside a bare Starlette app, in one run.

Both servers run in processes of their own, under uvicorn, in front of the same fixed model.
The bare app reads the JSON, asks the model and writes a fixed form: no validation, no key, no
request ids, no error objects, no watch for clients that hang up, no usage, no sources. Its figure
is the roof; ours as a share of it is what all these cost together.

The client is written on asyncio streams, with connections kept alive, so that it is not what is
measured. Rounds alternate between the two servers; the ratio is the median over rounds.

    python benchmarks/gateway.py [--check] [--seconds 1.0] [--rounds 3]

``--check`` exits 1 where a claim of CLAIMS is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from llmwright.core import Completion, Delta, Message, SamplingParams, Usage
from llmwright.gateway import bind, create_app

CONNECTIONS = (1, 16, 64)
CLAIMS = {"whole": 0.5, "streamed": 0.5}
"""The least share of the bare app's requests per second, at every number of connections."""


class Fixed:
    """A model that costs nothing: what is measured is the way to it and back."""

    name = "m"
    pieces = ["word "] * 50
    whole = Completion("".join(pieces), usage=Usage(100, 50))

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        return self.whole

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncIterator[Delta]:
        for piece in self.pieces:
            await asyncio.sleep(0)  # as one that works would let others have their turn
            yield Delta(piece)
        yield Delta("", self.whole)


def bare_app() -> Starlette:
    model = Fixed()

    async def chat(request: Request) -> Response:
        asked = await request.json()
        messages = [Message(turn["role"], turn["content"]) for turn in asked["messages"]]
        if asked.get("stream"):

            async def events() -> AsyncIterator[str]:
                async for delta in model.stream(messages):
                    chunk = {"choices": [{"index": 0, "delta": {"content": delta.text}}]}
                    yield f"data: {json.dumps(chunk)}\n\n"
                yield "data: [DONE]\n\n"

            return StreamingResponse(events(), media_type="text/event-stream")
        completion = await model.complete(messages)
        message = {"role": "assistant", "content": completion.text}
        return JSONResponse({"choices": [{"index": 0, "message": message}]})

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])


def run_server(kind: str) -> None:
    app = bare_app() if kind == "bare" else create_app({"m": Fixed()}, api_key="key")
    listener = bind("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


def request_bytes(stream: bool) -> bytes:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q " * 100}]
    body = json.dumps({"model": "m", "messages": messages, "stream": stream}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer key\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def read_answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError(head.decode())
    if b"transfer-encoding: chunked" in head:
        await reader.readuntil(b"\r\n0\r\n\r\n")
    else:
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)


async def load(port: int, connections: int, stream: bool, seconds: float) -> float:
    """Requests per second over ``connections`` that each ask again as soon as answered."""
    asked = request_bytes(stream)
    answered = 0
    began = time.perf_counter()
    end = began + seconds

    async def one() -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        try:
            while time.perf_counter() < end:
                writer.write(asked)
                await read_answer(reader)
                answered += 1
        finally:
            writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return answered / (time.perf_counter() - began)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", choices=("bare", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.server:
        run_server(options.server)
        return 0

    servers, ports = [], {}
    for kind in ("bare", "ours"):
        command = [sys.executable, __file__, "--server", kind]
        servers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        ports[kind] = int(servers[-1].stdout.readline())  # type: ignore[union-attr]
    worst: dict[str, float] = {}
    try:
        print("| answer | connections | bare Starlette, 1/s | LLMwright, 1/s | share |")
        print("|---|---:|---:|---:|---:|")
        for form in CLAIMS:
            for connections in CONNECTIONS:
                for port in ports.values():  # the first pays for what is set up on demand
                    asyncio.run(load(port, connections, form == "streamed", 0.1))
                rates: dict[str, list[float]] = {kind: [] for kind in ports}
                for _ in range(options.rounds):
                    for kind, port in ports.items():
                        measured = load(port, connections, form == "streamed", options.seconds)
                        rates[kind].append(asyncio.run(measured))
                shares = [b / a for a, b in zip(rates["bare"], rates["ours"], strict=True)]
                share = statistics.median(shares)
                worst[form] = min(share, worst.get(form, share))
                bare, ours = (statistics.median(rates[kind]) for kind in ("bare", "ours"))
                print(f"| {form} | {connections} | {bare:,.0f} | {ours:,.0f} | {share:.2f} |")
    finally:
        for server in servers:
            server.terminate()
            server.wait(30)
    print()
    for form, least in CLAIMS.items():
        print(f"{form}: at least {worst[form]:.2f} of bare Starlette (claim: {least})")
    return int(options.check and any(worst[form] < least for form, least in CLAIMS.items()))


if __name__ == "__main__":
    sys.exit(main())
