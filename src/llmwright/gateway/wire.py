"""The OpenAI chat and embedding format: what may be asked, and how answers are written.

Types are checked strictly and errors name the field (``messages[0].content``). Of the fields not
listed here, those that would change the answer are refused unless set to do nothing; the others
(``user``, ``metadata``, ``store``, ...) are passed over, as OpenAI does with its own.

Extensions: ``top_k`` in the request; ``sources`` in the answer and in the last chunk of a stream,
one object for each passage the model was given, ``cited`` where ``[number]`` stands in the text.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from llmwright.answering import cited_numbers
from llmwright.core import Completion, Message, SamplingParams, Usage
from llmwright.gateway.errors import ApiError

# Fields that change what is answered, with the values by which they don't.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "logit_bias": ({},),
    "logprobs": (False,),
    "min_p": (0,),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "structured_outputs": (),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "web_search_options": (),
}

_STRICT = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, frozen=True)


class ChatMessage(BaseModel):
    """One turn; its content a string or a list of text parts."""

    model_config = _STRICT

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
    model_config = _STRICT

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of ``POST /v1/chat/completions``."""

    model_config = _STRICT

    model: str | None = None
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    seed: int | None = None
    stop: list[Annotated[str, Field(min_length=1)]] | None = Field(None, max_length=16)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _listed(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

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
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise ApiError(
                400,
                "'max_tokens' and 'max_completion_tokens' contradict each other; give one.",
                param="max_tokens",
            )

    def conversation(self) -> list[Message]:
        """The messages in our own words; OpenAI's newer name for system is ``developer``."""
        return [
            Message("system" if turn.role == "developer" else turn.role, turn.content)
            for turn in self.messages
        ]

    def sampling(self) -> SamplingParams | None:
        """The parameters asked for; None where none is, which leaves all to the model."""
        limit = self.max_completion_tokens if self.max_tokens is None else self.max_tokens
        given: dict[str, Any] = {
            "max_tokens": limit,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "seed": self.seed,
            "stop": None if self.stop is None else tuple(self.stop),
        }
        given = {name: value for name, value in given.items() if value is not None}
        return SamplingParams(**given) if given else None


class EmbeddingRequest(BaseModel):
    """The body of ``POST /v1/embeddings``. ``input_type`` is an extension, named as Cohere and
    NVIDIA name it, for models that embed questions and passages differently."""

    model_config = _STRICT

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
    """A whole answer."""
    return {
        "id": answer_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": completion.text, "refusal": None},
                "logprobs": None,
                "finish_reason": completion.finish_reason,
            }
        ],
        "usage": usage_body(completion.usage),
        "sources": source_bodies(completion),
    }


def event(body: dict[str, Any]) -> bytes:
    """One server-sent event. ASCII only: some clients end a line at U+2028 or U+0085."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode("ascii") + b"\n\n"


DONE = b"data: [DONE]\n\n"
