"""The official client against the gateway, unmodified."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import openai
import pytest
from served_models import ASK, KEY, TEXT, Letters, Recording
from starlette.applications import Starlette

from llmwright.core import Completion, Delta, SamplingParams, TokenLogprob
from llmwright.gateway import create_app
from llmwright.providers import ScriptedModel

Start = Callable[[Starlette], Any]

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
