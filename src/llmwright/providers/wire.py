"""Reading what OpenAI-compatible endpoints send, with patience for what they leave out."""

from __future__ import annotations

import email.utils
import json
import time
from typing import Any

import httpx

from llmwright.core import FinishReason, Usage

_REASONS: dict[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}


def shorten(text: str) -> str:
    """Text as long as an error message may quote."""
    return text if len(text) <= 200 else text[:200] + "..."


def error_message(payload: Any) -> str:
    """The sentence in an error body, in OpenAI's form or in one of its neighbours'."""
    error = payload.get("error", payload) if isinstance(payload, dict) else payload
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or json.dumps(error)
    return shorten(str(error))


def first_choice(payload: dict[str, Any]) -> dict[str, Any]:
    """``choices[0]``, empty where there is none."""
    choices = payload.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def content_of(part: Any) -> str:
    """The text of a message or a delta, empty where it has none (a tool call, a role)."""
    content = part.get("content") if isinstance(part, dict) else None
    return content if isinstance(content, str) else ""


def finish_reason(choice: dict[str, Any]) -> FinishReason:
    """Why the answer ended, in our words; what we have no word for is a stop."""
    return _REASONS.get(str(choice.get("finish_reason")), "stop")


def usage_of(payload: dict[str, Any]) -> Usage:
    """Tokens as the server counts them, zero where it does not say."""
    counted = payload.get("usage")
    numbers = counted if isinstance(counted, dict) else {}
    values = [numbers.get(f"{part}_tokens") for part in ("prompt", "completion")]
    return Usage(*(value if isinstance(value, int) else 0 for value in values))


def retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait by the ``Retry-After`` header, a number or a date; None without one."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        moment = email.utils.parsedate_tz(value)
        return max(0.0, email.utils.mktime_tz(moment) - time.time()) if moment else None
