"""Ask a chat model for JSON of a given form, check what comes back, ask once more, then give up.

The schema goes along as ``SamplingParams.json_schema``, which models that can be bound to it obey;
others answer freely and are checked all the same. None says that the model gave no usable answer
twice: whatever was to be measured is unscored, and nothing is guessed.

An endpoint's failure counts as no answer; wrong settings are the caller's to mend and are raised.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from llmwright.core import ChatModel, Message, SamplingParams, UpstreamError, waited

T = TypeVar("T")


def ask_json(
    model: ChatModel,
    system: str,
    asked: str,
    schema: dict[str, Any],
    read: Callable[[Any], T],
    max_tokens: int = 512,
) -> T | None:
    """``read`` of the parsed answer, which raises ``ValueError``, ``TypeError`` or ``KeyError`` for
    one that is not of the form."""
    params = SamplingParams(max_tokens=max_tokens, json_schema=json.dumps(schema))
    messages = [Message("system", system), Message("user", asked)]
    for _ in range(2):
        try:
            answer = waited(model.complete(messages, params)).text
        except UpstreamError:
            continue
        try:
            return read(json.loads(_braces(answer)))
        except (ValueError, TypeError, KeyError) as error:
            wrong = f"That is not of the form asked for ({error}). Answer with the JSON alone."
            messages = [*messages[:2], Message("assistant", answer or "{}"), Message("user", wrong)]
    return None


def texts(
    name: str, most: int, least: int = 0
) -> tuple[dict[str, Any], Callable[[Any], list[str]]]:
    """The schema of a list of texts under ``name``, and its reader: blank ones are dropped."""

    def read(value: Any) -> list[str]:
        found = value[name]
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise ValueError(f"{name!r} is no list of texts")
        kept = [text.strip() for text in found if text.strip()]
        if not least <= len(kept) <= most:
            raise ValueError(f"{name!r} has {len(kept)} entries")
        return kept

    items = {"type": "array", "items": {"type": "string"}, "minItems": least, "maxItems": most}
    return _object({name: items}), read


def booleans(name: str, count: int) -> tuple[dict[str, Any], Callable[[Any], list[bool]]]:
    """The schema of ``count`` truth values under ``name``, and its reader."""

    def read(value: Any) -> list[bool]:
        found = value[name]
        if not isinstance(found, list) or len(found) != count:
            raise ValueError(f"{name!r} does not have {count} entries")
        if not all(isinstance(verdict, bool) for verdict in found):
            raise ValueError(f"{name!r} holds something other than true and false")
        return found

    items = {"type": "array", "items": {"type": "boolean"}, "minItems": count, "maxItems": count}
    return _object({name: items}), read


def fields(*names: str) -> tuple[dict[str, Any], Callable[[Any], tuple[str, ...]]]:
    """The schema of an object of texts, none blank, and its reader."""

    def read(value: Any) -> tuple[str, ...]:
        found = [value[name] for name in names]
        if not all(isinstance(text, str) and text.strip() for text in found):
            raise ValueError("a field is empty")
        return tuple(text.strip() for text in found)

    return _object({name: {"type": "string", "minLength": 1} for name in names}), read


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _braces(answer: str) -> str:
    """From the first brace to the last: models like to put JSON into a fence."""
    start, end = answer.find("{"), answer.rfind("}")
    if not 0 <= start < end:
        raise ValueError("there is no JSON object")
    return answer[start : end + 1]


def numbered(lines: Sequence[str]) -> str:
    """``1. ...`` a line each."""
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
