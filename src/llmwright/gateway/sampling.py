"""How a request says how to choose tokens: OpenAI's fields, and those of vLLM and transformers.

OpenAI: max_tokens, max_completion_tokens, temperature, top_p, presence_penalty,
frequency_penalty, logit_bias, n, logprobs, top_logprobs, response_format, seed, stop.
vLLM: top_k, min_p, repetition_penalty, best_of, use_beam_search, length_penalty, min_tokens,
stop_token_ids, ignore_eos, guided_json, guided_regex, guided_grammar, structured_outputs.
transformers: typical_p, num_beams, early_stopping, num_beam_groups, diversity_penalty,
penalty_alpha. Ours: regex and grammar, short for vLLM's.

The types of fields are checked here, and what only this format bounds; the ranges, and what fields
mean together, by `SamplingParams`.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llmwright.core import ConfigurationError, SamplingParams
from llmwright.gateway.errors import ApiError

STRICT = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, frozen=True)

# The fields that SamplingParams has under the same name.
_SAME = (
    "best_of", "diversity_penalty", "early_stopping", "frequency_penalty", "ignore_eos",
    "length_penalty", "logit_bias", "min_p", "min_tokens", "n", "num_beam_groups", "num_beams",
    "penalty_alpha", "presence_penalty", "repetition_penalty", "seed", "stop", "stop_token_ids",
    "temperature", "top_k", "top_p", "typical_p",
)  # fmt: skip


class SamplingRequest(BaseModel):
    """The part of a request that says how to choose tokens. What is left out or null is as
    `SamplingParams` has it."""

    model_config = STRICT

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[Annotated[str, Field(pattern="^[0-9]{1,9}$")], float] | None = None
    n: int | None = None
    best_of: int | None = None
    use_beam_search: bool | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    early_stopping: bool | Literal["never"] | None = None
    num_beam_groups: int | None = None
    diversity_penalty: float | None = None
    penalty_alpha: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    seed: int | None = None
    stop: list[str] | None = Field(None, max_length=16)
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_grammar: str | None = None
    regex: str | None = None
    grammar: str | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _listed(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    def sampling(self) -> SamplingParams:
        """The parameters asked for. Raises `ApiError` for a value out of its range, and for fields
        that contradict each other."""
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise _refused(
                "'max_tokens' and 'max_completion_tokens' contradict each other; give one.",
                "max_tokens",
            )
        given = {name: getattr(self, name) for name in _SAME}
        given["max_tokens"] = next(iter(limits), None)
        given["logprobs"] = self._alternatives()
        given |= self._structure()
        if self.logit_bias is not None:
            given["logit_bias"] = {int(token): bias for token, bias in self.logit_bias.items()}
        for name in ("stop", "stop_token_ids"):
            given[name] = tuple(given[name] or ())
        if self.use_beam_search and self.num_beams is None:  # vLLM has as many beams as answers
            if self.n is None or self.n == 1:
                raise _refused("'use_beam_search' needs 'num_beams' above 1.", "use_beam_search")
            given["num_beams"] = self.n
        try:
            return SamplingParams(**{k: value for k, value in given.items() if value is not None})
        except ConfigurationError as error:
            named = error.what.split()[0]
            param = named if named in type(self).model_fields else None
            raise _refused(f"{error.message}.", param) from error

    def _alternatives(self) -> int | None:
        if not self.logprobs:
            if self.top_logprobs:
                raise _refused("'top_logprobs' needs 'logprobs': true.", "top_logprobs")
            return None
        return self.top_logprobs or 0

    def _structure(self) -> dict[str, str]:
        """What the answer has to obey, by the name that SamplingParams has for it."""
        asked: list[tuple[str, Any, str]] = [
            ("json_schema", self.guided_json, "guided_json"),
            ("regex", self.guided_regex, "guided_regex"),
            ("grammar", self.guided_grammar, "guided_grammar"),
            ("regex", self.regex, "regex"),
            ("grammar", self.grammar, "grammar"),
            ("json_schema", _schema_of(self.response_format), "response_format"),
        ]
        for name, value in (self.structured_outputs or {}).items():
            known = {"json": "json_schema", "regex": "regex", "grammar": "grammar"}
            if name not in known and value is not None:
                raise _refused(
                    f"'structured_outputs.{name}' is not supported; use json, regex or grammar.",
                    "structured_outputs",
                )
            asked.append((known.get(name, name), value, "structured_outputs"))
        found: dict[str, str] = {}
        for kind, value, param in asked:
            if value is None:
                continue
            if kind == "json_schema":  # whose order of properties is the answer's
                value = json.dumps(_parsed(value, param) if isinstance(value, str) else value)
            if found.setdefault(kind, value) != value or len(found) > 1:
                raise _refused(f"'{param}' contradicts another field; give one structure.", param)
        return found


def _schema_of(wanted: dict[str, Any] | None) -> dict[str, Any] | bool | None:
    """The JSON schema in ``response_format``; any object for ``json_object``."""
    kind = None if wanted is None else wanted.get("type")
    if wanted is None or kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    inner = wanted.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    if kind != "json_schema" or not isinstance(schema, dict | bool):
        raise _refused(
            "'response_format' is {'type': 'text'}, {'type': 'json_object'} or {'type': "
            "'json_schema', 'json_schema': {'name': ..., 'schema': {...}}}.",
            "response_format",
        )
    return schema


def _parsed(text: str, param: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise _refused(f"'{param}' is no JSON: {error}.", param) from error


def _refused(message: str, param: str | None) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")
