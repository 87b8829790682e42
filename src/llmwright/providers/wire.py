"""Reading what OpenAI-compatible endpoints send, with patience for what they leave out."""

from __future__ import annotations

from typing import Any

from llmwright.core import FinishReason, Usage

_REASONS: dict[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}


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
