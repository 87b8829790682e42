"""What is refused or fails, and how the client is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from served_models import ASK, KEY, post
from starlette.applications import Starlette

from llmwright.gateway import create_app
from llmwright.providers import ScriptedModel

Start = Callable[[Starlette], Any]


@pytest.mark.parametrize("key", ["wrong", "k-secre", "k-secret2", "ключ"])
def test_a_wrong_key_is_refused(server: Any, key: str) -> None:
    headers = {"authorization": f"Bearer {key}".encode()}
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("GET", "/x")):
        answer = httpx.request(method, server.url + path, headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    client = openai.OpenAI(base_url=server.api, api_key="wrong", max_retries=0)
    with client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_health_needs_no_key(server: Any) -> None:
    assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(server.api + "/models").status_code == 401


def test_an_unknown_model_is_named(client: Any) -> None:
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError, match="did you mean 'cited'") as error:
            client.chat.completions.create(model="cite", messages=ASK, stream=stream)
        assert error.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="this server has: 'letters'"):
        client.embeddings.create(model="zzz", input="a")


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [*ASK, {"role": "assistant", "content": "", "tool_calls": [{}]}]}, "messages[1].tool_calls"),
        ({"temperature": -0.5}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"stop": ""}, "stop"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"n": 3, "temperature": 1, "extra_body": {"best_of": 2}}, "best_of"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_object"}, "extra_body": {"regex": "a"}}, "response_format"),
        ({"extra_body": {"guided_json": "{"}}, "guided_json"),
        ({"extra_body": {"structured_outputs": {"choice": ["a"]}}}, "structured_outputs"),
        ({"extra_body": {"guided_choice": ["a"]}}, "guided_choice"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x.[key]"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"extra_body": {"use_beam_search": True}}, "use_beam_search"),
        ({"temperature": 1, "extra_body": {"num_beams": 4}}, "num_beams"),
        ({"extra_body": {"penalty_alpha": 0.6}}, None),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)  # fmt: skip
def test_a_wrong_request_names_its_field(client: Any, given: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**{"model": "cited", "messages": ASK, **given})
    assert error.value.param == param
    assert (param or "top_k").split("[")[0].rstrip(".") in error.value.message


@pytest.mark.parametrize(
    ("given", "param"),
    [({"input": []}, "input"), ({"input": ""}, "input[0]"), ({"input": [[1, 2]]}, "input"),
     ({"input": "a", "dimensions": 3}, "dimensions")],
)  # fmt: skip
def test_a_wrong_embedding_request_names_its_field(
    client: Any, given: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(**{"model": "letters", **given})
    assert error.value.param == param


@pytest.mark.parametrize("stream", [False, True])
def test_failures_have_the_status_that_tells_what_to_do(client: Any, stream: bool) -> None:
    def fails(model: str) -> openai.APIStatusError:
        with pytest.raises(openai.APIStatusError) as error:
            client.chat.completions.create(model=model, messages=ASK, stream=stream)
        return error.value

    kinds = {
        "full": ("rate_limit_error", None, "capacity"),
        "long": ("invalid_request_error", "messages", "context_length_exceeded"),
        "upstream": ("upstream_error", None, "upstream"),
        "bad": ("invalid_request_error", None, None),
        "bug": ("server_error", None, "internal"),
    }
    for model, kind in kinds.items():
        told = fails(model)
        assert (told.type, told.param, told.code) == kind
        assert set(told.response.json()["error"]) == {"message", "type", "param", "code"}
    full = fails("full")
    assert (full.status_code, full.response.headers["retry-after"]) == (429, "1")
    assert "every seat is taken" in full.message
    assert "secret" not in full.response.text
    long = fails("long")
    assert (long.status_code, long.code) == (400, "context_length_exceeded")
    assert "9000 tokens; shorten it." in long.message
    assert fails("upstream").status_code == 502
    assert fails("bad").status_code == 400
    bug = fails("bug")
    assert bug.status_code == 500
    assert "secret" not in bug.response.text
    assert bug.response.headers["x-request-id"] in bug.message


@pytest.mark.parametrize(
    ("model", "told"), [("late", "it broke off"), ("late-bug", "The server failed")]
)
def test_a_failure_in_the_middle_ends_the_stream_with_the_error(
    client: Any, model: str, told: str
) -> None:
    received = []
    with pytest.raises(openai.APIError, match=told) as error:
        for chunk in client.chat.completions.create(model=model, messages=ASK, stream=True):
            received.append(chunk.choices[0].delta.content)
    assert received == ["piece ", "piece "]
    assert "secret" not in str(error.value.body)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"model": "\\ud800"}',
        b"[" * 100_000,
        b'{"temperature": NaN}',
    ],
)
def test_a_body_that_is_no_request_is_refused(server: Any, content: bytes) -> None:
    answer = post(server, content)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_too_large_is_refused_whether_or_not_its_length_is_told(start: Start) -> None:
    server = start(create_app({"m": ScriptedModel(lambda m: "x")}))
    body = json.dumps({"model": "m", "messages": ASK}).encode()
    most = 4 << 20
    assert post(server, body.ljust(most)).status_code == 200
    told = post(server, iter([body.ljust(most)])).status_code
    assert told == 200
    for too_much in (body.ljust(most + 1), iter([body, b" " * most])):
        refused = post(server, too_much)
        assert (refused.status_code, refused.headers["connection"]) == (413, "close")
        assert refused.json()["error"]["code"] == "request_too_large"
        assert "larger than 4,194,304 bytes" in refused.json()["error"]["message"]


def test_only_json_is_read(server: Any) -> None:
    body = json.dumps({"model": "cited", "messages": ASK})
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert post(server, body, **{"content-type": kind}).status_code == 415
    assert (
        post(server, body, **{"content-type": "Application/JSON; charset=utf-8"}).status_code == 200
    )


def test_other_paths_and_methods_answer_in_the_same_form(server: Any) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    missing = httpx.get(f"{server.api}/completions", headers=headers)
    assert (missing.status_code, missing.json()["error"]["message"]) == (
        404,
        "Not Found: GET /v1/completions",
    )
    wrong = httpx.get(f"{server.api}/chat/completions", headers=headers)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("path", "given", "error"),
    [
        (
            "chat/completions",
            {"model": "cited", "messages": ASK, "regex": "a", "grammar": "b"},
            (
                "'grammar' contradicts another field; give one structure.",
                "grammar",
                "invalid_value",
            ),
        ),
        (
            "chat/completions",
            {"model": "cited", "messages": ASK, "functions": [{}]},
            (
                "'functions' is not supported; leave it out or set it to [].",
                "functions",
                "unsupported_parameter",
            ),
        ),
        (
            "chat/completions",
            {"model": "cited", "messages": ASK, "top_p": 1.5},
            ("top_p is 1.5; top_p must be above 0 and at most 1.", "top_p", "invalid_value"),
        ),
        (
            "embeddings",
            {"model": "leters", "input": "a"},
            (
                "There is no embedding model 'leters'; did you mean 'letters'?",
                "model",
                "model_not_found",
            ),
        ),
        (
            "embeddings",
            {"model": "letters", "input": "a", "dimensions": 3},
            (
                "The model gives 26 dimensions; leave 'dimensions' out.",
                "dimensions",
                "unsupported_parameter",
            ),
        ),
    ],
)
def test_a_refusal_is_one_error_object(
    server: Any, path: str, given: dict[str, Any], error: tuple[str, str, str]
) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    answer = httpx.post(f"{server.api}/{path}", json=given, headers=headers)
    message, param, code = error
    kind = "invalid_request_error"
    assert answer.json() == {
        "error": {"message": message, "type": kind, "param": param, "code": code}
    }
