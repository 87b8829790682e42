"""The OpenAI chat format, the client's side: how sampling is asked for, and how answers are read,
with patience for what servers leave out."""

from __future__ import annotations

import json
from typing import Any

from llmwright.core import (
    ConfigurationError,
    FinishReason,
    SamplingParams,
    TokenLogprob,
    Usage,
)

_REASONS: dict[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}


# What OpenAI's own endpoint understands, by our names.
_OF_OPENAI = frozenset(
    {
        "max_tokens", "temperature", "top_p", "stop", "seed", "presence_penalty",
        "frequency_penalty", "logit_bias", "n", "logprobs", "json_schema",
    }
)  # fmt: skip
# Fields that are called alike and need no other form.
_PLAIN = (
    "top_p", "top_k", "min_p", "typical_p", "seed", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "n", "best_of", "num_beams", "length_penalty", "early_stopping",
    "num_beam_groups", "diversity_penalty", "penalty_alpha", "min_tokens", "ignore_eos",
)  # fmt: skip


def sampling_body(params: SamplingParams, *, of_openai: bool) -> dict[str, Any]:
    """The fields by which a server is asked for ``params``; what is off is left out.

    Names are OpenAI's, and where it has none those of vLLM (SGLang, llama.cpp and Ollama share
    many) and of our own gateway. Raises ``ConfigurationError`` for what OpenAI's own endpoint
    does not offer.
    """
    off = SamplingParams()
    used = {f for f in params.__slots__ if getattr(params, f) != getattr(off, f)}
    if of_openai and (foreign := sorted(used - _OF_OPENAI)):
        raise ConfigurationError(
            f"api.openai.com offers no {', '.join(foreign)}",
            where="sampling parameters",
            fix="leave it out, or use a server that does, such as vLLM or our own engine",
        )
    # OpenAI's newer models refuse the older name, which everyone else understands.
    limit = "max_completion_tokens" if of_openai else "max_tokens"
    body: dict[str, Any] = {limit: params.max_tokens, "temperature": params.temperature}
    body |= {name: getattr(params, name) for name in _PLAIN if name in used}
    for name in ("stop", "stop_token_ids"):
        if name in used:
            body[name] = list(getattr(params, name))
    if "logit_bias" in used:
        body["logit_bias"] = {str(token): value for token, value in dict(params.logit_bias).items()}
    if params.num_beams > 1:  # vLLM keeps as many beams as answers; the first n are taken
        body |= {"use_beam_search": True, "n": params.num_beams}
    if params.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": params.logprobs}
    if params.json_schema is not None:
        schema = {"name": "answer", "schema": json.loads(params.json_schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    for name in ("regex", "grammar"):  # before and since vLLM 0.12
        if name in used:
            value = getattr(params, name)
            body |= {f"guided_{name}": value, "structured_outputs": {name: value}}
    return body


def choices_of(payload: dict[str, Any]) -> list[dict[str, Any]]:
    """``choices``, those that are objects, in the order of their ``index``."""
    choices = payload.get("choices")
    found = [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
    return sorted(found, key=index_of)


def index_of(choice: dict[str, Any]) -> int:
    """Which answer a choice belongs to, 0 where it does not say."""
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def logprobs_of(choice: dict[str, Any]) -> tuple[TokenLogprob, ...]:
    """The tokens of a choice with their log-probabilities, none where it does not tell."""
    told = choice.get("logprobs")
    content = told.get("content") if isinstance(told, dict) else None
    return tuple(_token(t) for t in content or () if isinstance(t, dict))


def _token(told: dict[str, Any]) -> TokenLogprob:
    text = str(told.get("token", ""))
    raw = told.get("bytes")
    logprob = told.get("logprob")
    others = told.get("top_logprobs")
    return TokenLogprob(
        text,
        float(logprob) if isinstance(logprob, int | float) else float("nan"),
        bytes(raw) if isinstance(raw, list) else text.encode(),
        tuple(_token(t) for t in others or () if isinstance(t, dict)),
    )


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
