"""What goes over the wire, to the last byte."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
from served_models import ASK, KEY, post
from starlette.applications import Starlette

from llmwright.gateway import create_app
from llmwright.providers import ScriptedModel

Start = Callable[[Starlette], Any]


def test_where_one_model_is_served_it_need_not_be_named(start: Start, server: Any) -> None:
    body = json.dumps({"messages": ASK})
    refused = post(server, body).json()["error"]
    assert (refused["param"], refused["code"]) == ("model", "model_missing")
    assert "'cited', 'org/echo'" in refused["message"]
    alone = start(create_app({"m": ScriptedModel(lambda m: "x")}))
    assert post(alone, body).json()["model"] == "m"


def test_requests_have_ids(server: Any) -> None:
    def given_back(asked: str | None) -> str:
        headers = {} if asked is None else {"x-request-id": asked}
        return httpx.get(f"{server.url}/healthz", headers=headers).headers["x-request-id"]

    assert given_back("abc-1") == "abc-1"
    assert given_back("bad id") != "bad id"
    first, second = given_back(None), given_back("x" * 200)
    assert first.startswith("req_")
    assert second.startswith("req_")
    assert first != second


def test_lines_of_a_stream_are_ascii(server: Any) -> None:
    """Some clients end a line at U+2028: the text above holds one, beside other letters."""
    body = {
        "model": "org/echo",
        "messages": [{"role": "user", "content": "ü\u2028\u0085Ж"}],
        "stream": True,
    }
    answer = post(server, json.dumps(body))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content.isascii()
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    text = "".join(
        json.loads(event.removeprefix("data: "))["choices"][0]["delta"].get("content", "")
        for event in events[:-2]
    )
    assert text == "user: ü\u2028\u0085Ж"


def test_bodies_are_openai_s_to_the_last_field(server: Any) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    asked: dict[str, Any] = {"model": "org/echo", "messages": ASK}
    whole = post(server, json.dumps(asked)).json()
    assert re.fullmatch("chatcmpl-[0-9a-f]{32}", whole.pop("id"))
    assert isinstance(whole.pop("created"), int)
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    text = "user: What is rank?"
    message = {"role": "assistant", "content": text, "refusal": None}
    assert whole == {
        "object": "chat.completion",
        "model": "org/echo",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": usage,
        "sources": [],
    }
    asked |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = post(server, json.dumps(asked))
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"  # nginx passes pieces on as they come
    chunks = [json.loads(line[6:]) for line in answer.text.split("\n\n")[:-2]]
    frame = {key: chunks[0][key] for key in ("id", "created")}
    frame |= {"object": "chat.completion.chunk", "model": "org/echo"}

    def chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**frame, "choices": [choice], "usage": None}

    words = [{"content": word} for word in ("user: ", "What ", "is ", "rank?")]
    words[0]["role"] = "assistant"
    last = {**chunk({}, "stop"), "sources": []}
    assert chunks == [*map(chunk, words), last, {**frame, "choices": [], "usage": usage}]
    models = httpx.get(f"{server.api}/models", headers=headers).json()
    assert models["object"] == "list"
    one = httpx.get(f"{server.api}/models/letters", headers=headers).json()
    assert one == models["data"][-1]
    assert isinstance(one.pop("created"), int)
    assert one == {"id": "letters", "object": "model", "owned_by": "llmwright"}
    body = {"model": "letters", "input": "ab"}
    vectors = httpx.post(f"{server.api}/embeddings", headers=headers, json=body)
    vector = vectors.json()["data"][0].pop("embedding")
    assert len(vector) == 26
    expected = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": vector}],
        "model": "letters",
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }
    assert vectors.json() == expected
    assert vectors.text == json.dumps(expected, separators=(",", ":"))
    assert vectors.headers["content-type"] == "application/json"
