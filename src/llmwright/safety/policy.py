"""The guard policy: a TOML file, typed, in which every wrong key is named with the nearest one.

    max_input_characters = 20000
    injection = "block"          # block | flag | off
    pii_input = "redact"         # redact | block | flag | off
    pii_kinds = ["email", "phone", "card", "ip"]

    [messages]
    injection = "I can't follow instructions that replace my own."

A policy left out of a file keeps its default, and an empty file is the default policy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llmwright.core import ConfigurationError, read_toml
from llmwright.privacy import DEFAULT_REGIONS, PII_KINDS, PIIKind, check_regions

_STRICT = ConfigDict(extra="forbid", frozen=True)
_Action = Literal["redact", "block", "flag", "off"]


class Messages(BaseModel):
    """What the user is told when a text is refused."""

    model_config = _STRICT

    too_long: str = "The message is too long. Please shorten it."
    characters: str = (
        "The message holds hidden or control characters. Please type it as plain text."
    )
    injection: str = (
        "The message looks like an attempt to change my instructions, so I did not answer."
    )
    pii_input: str = "The message holds personal data. Please remove it and ask again."
    pii_output: str = "The answer held personal data and was withheld."


class Policy(BaseModel):
    """What the guards check, and what they do about what they find.

    ``pii_input`` and ``pii_output``: "redact" hides the data (the model sees placeholders, the
    user gets back what he wrote), "block" refuses, "flag" only reports, "off" does not look.
    ``phone_regions`` are the countries whose national way of writing phone numbers is known.
    """

    model_config = _STRICT

    max_input_characters: int = Field(default=20_000, ge=1)
    max_output_characters: int = Field(default=20_000, ge=1)
    block_control_characters: bool = True
    injection: Literal["block", "flag", "off"] = "block"
    pii_input: _Action = "redact"
    pii_output: _Action = "redact"
    pii_kinds: tuple[PIIKind, ...] = PII_KINDS
    phone_regions: tuple[str, ...] = DEFAULT_REGIONS
    messages: Messages = Messages()

    @field_validator("phone_regions")
    @classmethod
    def _known_regions(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        try:
            check_regions(regions)
        except ConfigurationError as error:
            raise ValueError(error.message) from error
        return regions


def load_policy(path: Path) -> Policy:
    """Read a policy. Raises ``ConfigurationError`` with the line of every key that is unknown or
    wrong, and ``InputError`` where there is no such file."""
    return read_toml(path, Policy, ConfigurationError)
