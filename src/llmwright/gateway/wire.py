"""The OpenAI chat and embedding format: what may be asked, and how answers are written.

Types are checked strictly and errors name the field (``messages[0].content``). Of the fields not
listed here, those that would change the answer are refused unless set to do nothing; the others
(``user``, ``metadata``, ``store``, ...) are passed over, as OpenAI does with its own.

Extensions: the sampling fields that OpenAI lacks (``sampling.py``); ``sources`` in the answer and
in the last chunk of a stream, one object for each passage the model was given, ``cited`` where
``[number]`` stands in the text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator

from llmwright.answering import cited_numbers
from llmwright.core import Completion, Message, TokenLogprob, Usage
from llmwright.gateway.errors import ApiError
from llmwright.gateway.sampling import STRICT, SamplingRequest

# Fields that change what is answered, with the values by which they don't.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "guided_choice": (),
    "modalities": (["text"],),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "web_search_options": (),
}


class ChatMessage(BaseModel):
    """One turn; its content a string or a list of text parts."""

    model_config = STRICT

    role: Literal["system", "developer", "user", "assistant"]
    content: str

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, content: Any) -> Any:
        if not isinstance(content, list):
            return content
        texts = []
        for part in content:
            if not isinstance(part, dict) or part.get("type") != "text":
                kind = part.get("type") if isinstance(part, dict) else type(part).__name__
                raise ValueError(f"only text parts are supported, not {kind!r}")
            if not isinstance(part.get("text"), str):
                raise ValueError("a text part holds a string 'text'")
            texts.append(part["text"])
        return "\n".join(texts)


class StreamOptions(BaseModel):
    model_config = STRICT

    include_usage: bool = False


class ChatRequest(SamplingRequest):
    """The body of ``POST /v1/chat/completions``."""

    model: str | None = None
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def check(self) -> None:
        """Refuse what is asked for and not done here. Raises `ApiError`."""
        for name, value in (self.model_extra or {}).items():
            if value is None or name not in _UNSUPPORTED or value in _UNSUPPORTED[name]:
                continue
            neutral = " or ".join(json.dumps(value) for value in _UNSUPPORTED[name])
            raise _unsupported(name, f"leave it out{f' or set it to {neutral}' if neutral else ''}")
        for at, message in enumerate(self.messages):
            if (message.model_extra or {}).get("tool_calls"):
                where = f"messages[{at}].tool_calls"
                raise _unsupported(where, "leave it out")
        if self.stream_options is not None and not self.stream:
            raise ApiError(400, "'stream_options' needs 'stream': true.", param="stream_options")

    def conversation(self) -> list[Message]:
        """The messages in our own words; OpenAI's newer name for system is ``developer``."""
        return [
            Message("system" if turn.role == "developer" else turn.role, turn.content)
            for turn in self.messages
        ]


class EmbeddingRequest(BaseModel):
    """The body of ``POST /v1/embeddings``. ``input_type`` is an extension, named as Cohere and
    NVIDIA name it, for models that embed questions and passages differently."""

    model_config = STRICT

    model: str
    input: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1, max_length=2048)
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    input_type: Literal["query", "document"] = "document"

    @field_validator("input", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        texts = given if isinstance(given, list) else [given]
        if any(isinstance(text, int | list) for text in texts):
            raise ValueError("token ids are not supported; send the texts themselves")
        return texts


def _unsupported(param: str, way_out: str) -> ApiError:
    message = f"'{param}' is not supported; {way_out}."
    return ApiError(400, message, param=param, code="unsupported_parameter")


Asked = TypeVar("Asked", ChatRequest, EmbeddingRequest)


def parse(kind: type[Asked], body: bytes) -> Asked:
    """Read a request. Raises `ApiError` that names the first field that is wrong."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            detail = first.get("ctx", {}).get("error", "it cannot be read")
            raise ApiError(
                400, f"The body is not valid JSON: {detail}.", code="invalid_json"
            ) from error
        param = _path(first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise ApiError(
            400, f"{param or 'The body'}: {reason}.", param=param or None, code=first["type"]
        ) from error


def _path(location: tuple[int | str, ...]) -> str:
    """``("messages", 0, "content")`` as ``messages[0].content``."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def usage_body(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def source_bodies(completion: Completion) -> list[dict[str, Any]]:
    """The passages by number, each with its place in its document."""
    if not completion.sources:
        return []
    cited = cited_numbers(completion.text, len(completion.sources))
    return [
        {
            "number": number,
            "document_id": hit.chunk.document_id,
            "heading": hit.chunk.heading,
            "start": hit.chunk.start,
            "end": hit.chunk.end,
            "text": hit.chunk.text,
            "score": float(hit.score),
            "cited": number in cited,
        }
        for number, hit in enumerate(completion.sources, start=1)
    ]


def completion_body(
    answer_id: str, created: int, model: str, completion: Completion
) -> dict[str, Any]:
    """A whole answer, one choice for each that was asked for."""
    return {
        "id": answer_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": logprobs_body(answer.top_logprobs),
                "finish_reason": answer.finish_reason,
            }
            for index, answer in enumerate((completion, *completion.alternatives))
        ],
        "usage": usage_body(completion.usage),
        "sources": source_bodies(completion),
    }


def logprobs_body(tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    """Tokens with their log-probabilities; null where none are told."""
    if not tokens:
        return None
    content = [
        {**_token_body(token), "top_logprobs": [_token_body(other) for other in token.top]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _token_body(token: TokenLogprob) -> dict[str, Any]:
    # Minus infinity is no JSON; OpenAI writes -9999 for what cannot be, as we for what is not told.
    logprob = token.logprob if token.logprob > -9999.0 else -9999.0
    return {"token": token.text, "logprob": logprob, "bytes": list(token.raw)}


# ASCII only: some clients of a stream end a line at U+2028 or U+0085.
compact_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def event(data: str) -> bytes:
    """One server-sent event of a line of ASCII."""
    return f"data: {data}\n\n".encode("ascii")


DONE = b"data: [DONE]\n\n"
