"""The remote model against a real server on a loopback port that fails in many ways."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import Counter

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from llmwright.core import ChatModel, ConfigurationError, Message, SamplingParams, UpstreamError
from llmwright.providers import RemoteModel
from llmwright.providers.wire import sampling_body

KEY = "sk-very-secret-0123456789"
QUESTION = [Message("system", "be brief"), Message("user", "hello")]


class Upstream:
    """An endpoint whose behaviour is the name of the model asked for."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.bodies: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.hung = threading.Event()  # set when a client let go of a stream
        routes = [Route("/v1/chat/completions", self.answer, methods=["POST"])]
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1"
        config = uvicorn.Config(Starlette(routes=routes), log_level="critical", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))
        self.thread.start()

    def close(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join()
        self.socket.close()

    async def answer(self, request) -> Response:
        body = await request.json()
        how = body["model"]
        self.calls[how] += 1
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        return await getattr(self, how)(body, self.calls[how])

    # -- behaviours ---------------------------------------------------------------------------

    async def good(self, body, call) -> Response:
        if body.get("stream"):
            return sse(*pieces("Hel", "lo, ", "wörld"), usage(5, 3), "[DONE]")
        return whole("Hello, wörld")

    async def fails_twice(self, body, call) -> Response:
        return await self.good(body, call) if call > 2 else PlainTextResponse("oops", 500)

    async def always_fails(self, body, call) -> Response:
        return JSONResponse({"error": {"message": f"no luck with Bearer {KEY}"}}, 503)

    async def busy_once(self, body, call) -> Response:
        if call == 1:
            return JSONResponse({"error": {"message": "slow down"}}, 429, {"Retry-After": "0"})
        return await self.good(body, call)

    async def busy_for_an_hour(self, body, call) -> Response:
        return JSONResponse({"error": "slow down"}, 429, {"Retry-After": "3600"})

    async def refuses(self, body, call) -> Response:
        return JSONResponse({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401)

    async def hangs(self, body, call) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def hangs_once(self, body, call) -> Response:
        return await (self.hangs if call == 1 else self.good)(body, call)

    async def trickles(self, body, call) -> Response:
        async def endless():
            while True:
                yield b" "
                await asyncio.sleep(0)

        return StreamingResponse(endless(), media_type="application/json")

    async def cuts(self, body, call) -> Response:
        async def some():
            for piece in pieces("Hel", "lo")[:2]:
                yield f"data: {piece}\n\n".encode()
            yield b'data: {"choices": [{"del'
            raise ConnectionResetError

        return StreamingResponse(some(), media_type="text/event-stream")

    async def ends_early(self, body, call) -> Response:
        return sse(*pieces("Hel", "lo")[:2])

    async def stalls(self, body, call) -> Response:
        async def some():
            yield f"data: {pieces('Hel')[0]}\n\n".encode()
            await asyncio.Event().wait()

        return StreamingResponse(some(), media_type="text/event-stream")

    async def error_in_stream(self, body, call) -> Response:
        return sse(pieces("Hel")[0], json.dumps({"error": {"message": "out of memory"}}))

    async def not_json(self, body, call) -> Response:
        return PlainTextResponse("<html>It works!</html>")

    async def no_choices(self, body, call) -> Response:
        return JSONResponse({"object": "chat.completion", "choices": []})

    async def odd_choices(self, body, call) -> Response:
        return JSONResponse({"choices": [{"message": "Hello"}]})

    async def a_list(self, body, call) -> Response:
        return JSONResponse(["Hello"])

    async def endless(self, body, call) -> Response:
        async def forever():
            try:
                while True:
                    yield f"data: {pieces('x')[0]}\n\n".encode()
                    await asyncio.sleep(0)
            finally:
                self.hung.set()

        return StreamingResponse(forever(), media_type="text/event-stream")

    async def tells_length(self, body, call) -> Response:
        return whole("Hel", reason="length")


def whole(text, reason="stop") -> Response:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
    counted = {"prompt_tokens": 5, "completion_tokens": 3}
    return JSONResponse({"choices": [choice], "usage": counted})


def pieces(*texts) -> list[str]:
    deltas = [{"role": "assistant"}, *({"content": text} for text in texts)]
    chunks = [{"choices": [{"delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    return [json.dumps(chunk, ensure_ascii=False) for chunk in chunks][1:]


def usage(prompt, completion) -> str:
    counted = {"prompt_tokens": prompt, "completion_tokens": completion}
    return json.dumps({"choices": [], "usage": counted})


def sse(*events) -> Response:
    body = "".join(f"data: {event}\n\n" for event in events)
    return Response(body, media_type="text/event-stream")


@pytest.fixture(scope="module")
def upstream():
    server = Upstream()
    yield server
    server.close()


@pytest.fixture
def ask(upstream):
    """Ask the endpoint for one whole answer, or for the deltas of a stream."""
    upstream.calls.clear()
    upstream.bodies.clear()
    upstream.headers.clear()

    def asking(how, *, stream=False, params=None, key=KEY, **options):
        options = {"timeout": 10.0, "backoff": 0.0, **options}

        async def run():
            model = RemoteModel(upstream.url, how, key, **options)
            try:
                async with asyncio.timeout(30):  # so that a wrong wait fails and does not hang
                    if stream:
                        return [delta async for delta in model.stream(QUESTION, params)]
                    return await model.complete(QUESTION, params)
            finally:
                await model.aclose()

        return asyncio.run(run())

    return asking


def test_whole_answer(ask):
    done = ask("good")
    assert (done.text, done.finish_reason) == ("Hello, wörld", "stop")
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (5, 3)
    assert ask("tells_length").finish_reason == "length"


def test_stream(ask):
    deltas = ask("good", stream=True)
    assert [d.text for d in deltas] == ["Hel", "lo, ", "wörld", ""]
    assert [d.completion is None for d in deltas] == [True, True, True, False]
    done = deltas[-1].completion
    assert (done.text, done.finish_reason) == ("Hello, wörld", "stop")
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (5, 3)


def test_what_is_sent(ask, upstream):
    params = SamplingParams(7, temperature=0.5, top_k=9, top_p=0.8, stop=("\n",), seed=3)
    ask("good", params=params)
    assert upstream.bodies[-1] == {
        "model": "good",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hello"},
        ],
        "max_tokens": 7,
        "temperature": 0.5,
        "top_k": 9,
        "top_p": 0.8,
        "stop": ["\n"],
        "seed": 3,
    }
    assert upstream.headers[-1]["authorization"] == f"Bearer {KEY}"
    ask("good", key=None)
    assert "authorization" not in upstream.headers[-1]
    assert set(upstream.bodies[-1]) == {"model", "messages", "max_tokens", "temperature"}


def test_beams_are_asked_for_as_vllm_has_them(ask, upstream):
    ask("good", params=SamplingParams(num_beams=4, n=2))
    sent = upstream.bodies[-1]
    assert (sent["n"], sent["num_beams"], sent["use_beam_search"]) == (4, 4, True)


def test_what_openai_does_not_offer_is_refused_before_anything_is_sent():
    model = RemoteModel("https://api.openai.com/v1", "m", KEY)
    with pytest.raises(ConfigurationError, match=r"offers no min_p, regex"):
        asyncio.run(model.complete(QUESTION, SamplingParams(min_p=0.1, regex="a")))
    fine = SamplingParams(temperature=1.0, n=2, logprobs=2, json_schema="{}", logit_bias={1: 1})
    body = sampling_body(fine, of_openai=True)
    assert set(body) == {
        "max_completion_tokens", "temperature", "n", "logprobs", "top_logprobs",
        "response_format", "logit_bias",
    }  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_failures_before_the_answer_are_tried_again(ask, upstream, stream):
    ask("fails_twice", stream=stream)
    assert upstream.calls["fails_twice"] == 3
    # The server's Retry-After of 0 goes before our own back-off, which would be long.
    ask("busy_once", stream=stream, backoff=1e9)
    assert upstream.calls["busy_once"] == 2
    ask("hangs_once", stream=stream, timeout=0.5)
    assert upstream.calls["hangs_once"] >= 2


@pytest.mark.parametrize("stream", [False, True])
def test_attempts_are_bounded(ask, upstream, stream):
    with pytest.raises(UpstreamError, match=r"answered 503, .*\(tried 3 times\)"):
        ask("always_fails", stream=stream, retries=2)
    assert upstream.calls["always_fails"] == 3
    with pytest.raises(UpstreamError, match=r"no answer within 0.05 s \(tried 2 times\)"):
        ask("hangs", stream=stream, timeout=0.05, retries=1)
    with pytest.raises(UpstreamError, match="answered 429, 'slow down'; ask for less"):
        ask("busy_for_an_hour", stream=stream)
    assert upstream.calls["busy_for_an_hour"] == 1


def test_a_trickling_answer_is_timed_out(ask):
    with pytest.raises(UpstreamError, match=r"no answer within 0.1 s"):
        ask("trickles", timeout=0.1, retries=0)


@pytest.mark.parametrize("how", ["refuses", "not_json", "no_choices", "odd_choices", "a_list"])
def test_what_will_not_get_better_is_not_repeated(ask, upstream, how):
    with pytest.raises(UpstreamError) as caught:
        ask(how)
    assert upstream.calls[how] == 1
    assert str(caught.value).startswith(upstream.url)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("cuts", "the stream broke off after 5 characters"),
        ("ends_early", "after 5 characters: it ended without a finish_reason"),
        ("stalls", "after 3 characters: no answer within 1 s"),
        ("error_in_stream", "reported an error: out of memory"),
        ("not_json", "ended without a finish_reason"),
    ],
)
def test_a_stream_that_began_is_never_repeated(ask, upstream, how, why):
    with pytest.raises(UpstreamError, match=why):
        ask(how, stream=True, timeout=1.0)
    assert upstream.calls[how] == 1


def test_the_key_is_never_shown(ask, upstream):
    for how in ("refuses", "always_fails"):
        with pytest.raises(UpstreamError) as caught:
            ask(how, retries=0)
        assert KEY not in str(caught.value)
        assert "***" in str(caught.value)
    assert KEY not in repr(RemoteModel(upstream.url, "good", KEY))
    assert "pass" not in repr(RemoteModel("http://user:pass@localhost/v1", "good"))
    with pytest.raises(ConfigurationError, match="API key") as bad:
        RemoteModel(upstream.url, "good", "sk-first\nsk-second")
    assert "sk-first" not in str(bad.value)


def test_no_server_at_all():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        model = RemoteModel(url, "m", retries=1, backoff=0.0)
        with pytest.raises(UpstreamError, match="check that the server runs"):
            asyncio.run(model.complete(QUESTION))


@pytest.mark.parametrize("url", ["", "localhost:80/v1", "ftp://host/v1", "http://", "http://[::1/"])
def test_bad_addresses(url):
    with pytest.raises(ConfigurationError, match="is not the address"):
        RemoteModel(url, "m")


def test_letting_go_of_a_stream_hangs_up(upstream):
    async def run():
        model = RemoteModel(upstream.url, "endless")
        stream = model.stream(QUESTION)
        assert (await anext(stream)).text == "x"
        await stream.aclose()
        await model.aclose()

    upstream.hung.clear()
    asyncio.run(run())
    assert upstream.hung.wait(10)


def test_cancelling_hangs_up(upstream):
    async def run():
        model = RemoteModel(upstream.url, "endless")
        seen = asyncio.Event()

        async def read():
            async for _ in model.stream(QUESTION):
                seen.set()

        task = asyncio.create_task(read())
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await model.aclose()

    upstream.hung.clear()
    asyncio.run(run())
    assert upstream.hung.wait(10)


def test_one_model_serves_several_event_loops_and_many_at_once(upstream):
    model = RemoteModel(upstream.url, "good")
    assert isinstance(model, ChatModel)

    async def many():
        return await asyncio.gather(*(model.complete(QUESTION) for _ in range(50)))

    for _ in range(2):
        assert {done.text for done in asyncio.run(many())} == {"Hello, wörld"}
