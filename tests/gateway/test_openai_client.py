"""The official client against the gateway, unmodified."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import re
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Literal

import httpx
import numpy as np
import openai
import pytest
from starlette.applications import Starlette

from llmwright.answering import CitedAnswerer
from llmwright.core import (
    CapacityError,
    Chunk,
    Completion,
    ContextLengthError,
    Delta,
    Embedder,
    Hit,
    InputError,
    Message,
    SamplingParams,
    TokenLogprob,
    UpstreamError,
)
from llmwright.gateway import create_app
from llmwright.providers import ScriptedModel

Start = Callable[[Starlette], Any]
KEY = "k-secret"
TEXT = "Rank is the width of the matrices."
HIT = Hit(Chunk("c", "lora.md", TEXT, 7, 7 + len(TEXT), "LoRA > Rank", "en"), 0.5)
OTHER = Hit(Chunk("e", "bits.md", "Four bits.", 0, 10, "", "en"), 0.25)
ASK = [{"role": "user", "content": "What is rank?"}]


class Letters:
    """An embedder by counting letters: a reference that is easy to compute."""

    name, dimension, languages = "letters", 26, None

    def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "document"] = "document"
    ) -> np.ndarray:
        counts = np.array([[text.count(chr(97 + at)) for at in range(26)] for text in texts])
        vectors = counts + (kind == "query")
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def count(self, text: str) -> int:
        return len(text.split())


class Broken:
    """Fails after ``after`` pieces."""

    name = "broken"

    def __init__(self, error: Exception, after: int = 0) -> None:
        self.error, self.after = error, after

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        raise self.error

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncIterator[Delta]:
        for _ in range(self.after):
            yield Delta("piece ")
        raise self.error


class Recording(ScriptedModel):
    """Keeps the parameters it was called with."""

    seen: SamplingParams | None = None

    async def stream(self, messages, params=None):  # type: ignore[no-untyped-def]
        self.seen = params
        async for delta in super().stream(messages, params):
            yield delta


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording(lambda messages: " | ".join(f"{m.role}: {m.content}" for m in messages))


@pytest.fixture(scope="module")
def server(start: Start, recording: Recording) -> Any:
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


SOURCES = [
    {"number": 1, "document_id": "bits.md", "heading": "", "start": 0, "end": 10,
     "text": "Four bits.", "score": 0.25, "cited": False},
    {"number": 2, "document_id": "lora.md", "heading": "LoRA > Rank", "start": 7,
     "end": 7 + len(TEXT), "text": TEXT, "score": 0.5, "cited": True},
]  # fmt: skip
ANSWER = "Rank is the width of the matrices [2]. Ünïcode\u2028!"


def test_a_whole_answer(client: Any) -> None:
    answer = client.chat.completions.create(model="cited", messages=ASK)
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.sources == SOURCES
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens > 0
    assert answer.object == "chat.completion"
    assert answer.model == "cited"


def test_a_streamed_answer_is_the_same(client: Any) -> None:
    whole = client.chat.completions.create(model="cited", messages=ASK)
    chunks = list(
        client.chat.completions.create(
            model="cited", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    *pieces, last, usage = chunks
    assert "".join(chunk.choices[0].delta.content for chunk in pieces) == ANSWER
    assert [chunk.choices[0].delta.role for chunk in pieces] == ["assistant"] + [None] * (
        len(pieces) - 1
    )
    assert [chunk.choices[0].finish_reason for chunk in pieces] == [None] * len(pieces)
    assert last.choices[0].finish_reason == "stop"
    assert last.sources == whole.sources
    assert usage.choices == []
    assert usage.usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1
    without = list(client.chat.completions.create(model="cited", messages=ASK, stream=True))
    assert len(without) == len(chunks) - 1
    assert all(chunk.usage is None for chunk in without)


def test_an_empty_answer_is_an_answer(client: Any) -> None:
    chunks = list(client.chat.completions.create(model="unfinished", messages=ASK, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", None]
    assert chunks[-1].sources == []


def test_the_asynchronous_client(server: Any) -> None:
    async def talk() -> tuple[str, str, int]:
        async with openai.AsyncOpenAI(base_url=server.api, api_key=KEY, max_retries=0) as client:
            whole = await client.chat.completions.create(model="cited", messages=ASK)  # type: ignore[arg-type]
            stream = await client.chat.completions.create(model="cited", messages=ASK, stream=True)  # type: ignore[arg-type]
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            vectors = await client.embeddings.create(model="letters", input="abc")
            return whole.choices[0].message.content or "", text, len(vectors.data[0].embedding)

    assert asyncio.run(talk()) == (ANSWER, ANSWER, 26)


def test_every_form_of_message_reaches_the_model(client: Any) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [
        {"role": "developer", "content": "rules"},
        {"role": "system", "content": "more"},
        {"role": "user", "content": parts, "name": "ann"},
        {"role": "assistant", "content": "yes", "refusal": None},
        {"role": "user", "content": ""},
    ]
    answer = client.chat.completions.create(model="org/echo", messages=messages, max_tokens=99)
    assert answer.choices[0].message.content == (
        "system: rules | system: more | user: one\ntwo | assistant: yes | user: "
    )


def test_parameters_asked_for_reach_the_model(client: Any, recording: Recording) -> None:
    def seen(**given: Any) -> SamplingParams | None:
        client.chat.completions.create(model="org/echo", messages=ASK, **given)
        return recording.seen

    assert seen() == SamplingParams()
    idle: dict[str, Any] = {"logprobs": False, "tools": [], "frequency_penalty": 0, "stop": None}
    assert seen(user="ann", store=False, n=1, **idle) == SamplingParams()
    assert seen(temperature=0.5) == SamplingParams(temperature=0.5)
    assert seen(max_completion_tokens=3, stop="x") == SamplingParams(3, stop=("x",))
    assert seen(
        max_tokens=4, temperature=1, top_p=0.9, seed=3, stop=["a", "b"], extra_body={"top_k": 2}
    ) == SamplingParams(4, 1.0, 2, 0.9, ("a", "b"), 3)


SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "null"}}}


@pytest.mark.parametrize(
    ("given", "params"),
    [
        ({"logit_bias": {"7": -2, "3": 1.5}}, {"logit_bias": {3: 1.5, 7: -2.0}}),
        ({"presence_penalty": 0.5, "frequency_penalty": -1}, {"presence_penalty": 0.5, "frequency_penalty": -1.0}),
        ({"n": 2, "temperature": 1, "seed": 4}, {"n": 2, "temperature": 1.0, "seed": 4}),
        ({"logprobs": True}, {"logprobs": 0}),
        ({"logprobs": True, "top_logprobs": 4}, {"logprobs": 4}),
        ({"response_format": {"type": "json_object"}}, {"json_schema": '{"type": "object"}'}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}, {"json_schema": json.dumps(SCHEMA)}),
        ({"extra_body": {"guided_json": SCHEMA, "structured_outputs": {"json": json.dumps(SCHEMA)}}}, {"json_schema": json.dumps(SCHEMA)}),
        ({"extra_body": {"guided_regex": "a+", "regex": "a+"}}, {"regex": "a+"}),
        ({"extra_body": {"structured_outputs": {"grammar": "start: /a/"}}}, {"grammar": "start: /a/"}),
        ({"extra_body": {"min_p": 0.1, "typical_p": 0.9, "repetition_penalty": 1.2, "min_tokens": 2, "stop_token_ids": [5], "ignore_eos": True}},
         {"min_p": 0.1, "typical_p": 0.9, "repetition_penalty": 1.2, "min_tokens": 2, "stop_token_ids": (5,), "ignore_eos": True}),
        ({"n": 3, "extra_body": {"use_beam_search": True, "length_penalty": 0.5}}, {"n": 3, "num_beams": 3, "length_penalty": 0.5}),
        ({"extra_body": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "early_stopping": "never"}},
         {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "early_stopping": "never"}),
        ({"extra_body": {"penalty_alpha": 0.6, "top_k": 4}}, {"penalty_alpha": 0.6, "top_k": 4}),
        ({"temperature": 1, "extra_body": {"best_of": 3}}, {"temperature": 1.0, "best_of": 3}),
    ],
)  # fmt: skip
def test_every_way_of_decoding_can_be_asked_for(
    client: Any, recording: Recording, given: dict[str, Any], params: dict[str, Any]
) -> None:
    client.chat.completions.create(model="org/echo", messages=ASK, **given)
    assert recording.seen == SamplingParams(**params)


def test_several_answers_are_several_choices_whole_and_streamed(start: Start) -> None:
    spoken = iter(["one two", "three four five", "six", "one two", "three four five", "six"])
    server = start(create_app({"m": ScriptedModel(lambda messages: next(spoken))}))
    asked: dict[str, Any] = {
        "model": "m",
        "messages": ASK,
        "n": 3,
        "temperature": 1,
        "max_tokens": 2,
    }
    with openai.OpenAI(base_url=server.api, api_key="x", max_retries=0) as client:
        whole = client.chat.completions.create(**asked)
        texts: dict[int, str] = {}
        reasons: dict[int, str] = {}
        chunks = client.chat.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}
        )
        for chunk in chunks:
            for choice in chunk.choices:
                texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
                if choice.finish_reason:
                    reasons[choice.index] = choice.finish_reason
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert [choice.message.content for choice in whole.choices] == ["one two", "three four ", "six"]
    assert [choice.finish_reason for choice in whole.choices] == ["stop", "length", "stop"]
    assert texts == {i: choice.message.content for i, choice in enumerate(whole.choices)}
    assert reasons == {i: choice.finish_reason for i, choice in enumerate(whole.choices)}
    assert chunk.usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 5


def test_log_probabilities_come_in_openai_s_shape_whole_and_streamed(start: Start) -> None:
    class Told(ScriptedModel):
        """One character in two tokens, and alternatives one of which cannot be."""

        async def stream(self, messages, params=None):  # type: ignore[no-untyped-def]
            top = (TokenLogprob("x", -0.25, b"x"), TokenLogprob("z", -math.inf, b"z"),
                   TokenLogprob("y", math.nan, b"y"))  # fmt: skip
            tokens = (
                TokenLogprob("\ufffd", -0.5, b"\xc3", top),
                TokenLogprob("\ufffd", -1.5, b"\xbc"),
                TokenLogprob("!", 0.0, b"!"),
            )
            yield Delta("", top_logprobs=tokens[:1])
            yield Delta("ü", top_logprobs=tokens[1:2])
            yield Delta("!", Completion("ü!", top_logprobs=tokens))

    server = start(create_app({"m": Told(lambda messages: "")}))
    asked: dict[str, Any] = {"model": "m", "messages": ASK, "logprobs": True, "top_logprobs": 2}
    with openai.OpenAI(base_url=server.api, api_key="x", max_retries=0) as client:
        whole = client.chat.completions.create(**asked).choices[0]
        streamed, text = [], ""
        for chunk in client.chat.completions.create(**asked, stream=True):
            text += chunk.choices[0].delta.content or ""
            told = chunk.choices[0].logprobs
            streamed += (told.content or []) if told else []
    assert whole.logprobs is not None
    content = whole.logprobs.content or []
    assert text == whole.message.content == "ü!"
    assert streamed == content
    assert [(t.token, t.logprob, t.bytes) for t in content] == [
        ("\ufffd", -0.5, [0xC3]), ("\ufffd", -1.5, [0xBC]), ("!", 0.0, [33]),
    ]  # fmt: skip
    assert [(t.token, t.logprob) for t in content[0].top_logprobs] == [
        ("x", -0.25), ("z", -9999.0), ("y", -9999.0),
    ]  # fmt: skip


def test_where_one_model_is_served_it_need_not_be_named(start: Start, server: Any) -> None:
    body = json.dumps({"messages": ASK})
    refused = post(server, body).json()["error"]
    assert (refused["param"], refused["code"]) == ("model", "model_missing")
    assert "'cited', 'org/echo'" in refused["message"]
    alone = start(create_app({"m": ScriptedModel(lambda m: "x")}))
    assert post(alone, body).json()["model"] == "m"


def test_a_cut_answer_says_so(client: Any) -> None:
    answer = client.chat.completions.create(model="org/echo", messages=ASK, max_tokens=1)
    assert answer.choices[0].finish_reason == "length"


def test_models_are_listed_and_found(client: Any) -> None:
    names = [model.id for model in client.models.list()]
    assert names[:2] == ["cited", "org/echo"]
    assert names[-1] == "letters"
    assert client.models.retrieve("org/echo").id == "org/echo"
    with pytest.raises(openai.NotFoundError, match="did you mean 'cited'"):
        client.models.retrieve("citted")


def test_embeddings_are_the_embedders(client: Any) -> None:
    texts = ["abba", "cab"]
    expected = Letters().embed(texts)
    for encoding in ("float", "base64"):
        answer = client.embeddings.create(model="letters", input=texts, encoding_format=encoding)
        vectors = [item.embedding for item in answer.data]
        if encoding == "base64":
            vectors = [np.frombuffer(base64.b64decode(v), "<f4") for v in vectors]
        np.testing.assert_array_equal(np.asarray(vectors, np.float32), expected)
    answer = client.embeddings.create(model="letters", input=texts, dimensions=26)
    np.testing.assert_array_equal(
        np.asarray([i.embedding for i in answer.data], np.float32), expected
    )
    assert [item.index for item in answer.data] == [0, 1]
    assert answer.usage.prompt_tokens == 2
    query = client.embeddings.create(
        model="letters", input="ab", extra_body={"input_type": "query"}
    )
    expected = Letters().embed(["ab"], kind="query")
    np.testing.assert_array_equal(np.asarray([query.data[0].embedding], np.float32), expected)


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


def post(server: Any, content: Any, **headers: str) -> httpx.Response:
    sent = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **headers}
    return httpx.post(f"{server.api}/chat/completions", content=content, headers=sent)


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
