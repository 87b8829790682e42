"""What a guard says: whether a text may pass, in which form, and what was found in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """Something at ``text[start:end]`` of the checked text. ``detail`` says what it is and never
    repeats personal data; ``severity`` is in [0, 1], 1 being enough to block by itself."""

    kind: str
    start: int
    end: int
    detail: str
    severity: float

    def as_dict(self) -> dict[str, Any]:
        """For a JSONL record."""
        return {
            "kind": self.kind,
            "start": self.start,
            "end": self.end,
            "detail": self.detail,
            "severity": round(self.severity, 4),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """``text`` is what may be passed on: redacted where the policy says so, empty where nothing
    may. ``refusal`` is the sentence for the user where it is not allowed. ``mapping`` puts
    redacted values back; it is kept out of ``repr`` and ``as_dict``."""

    allowed: bool
    text: str
    findings: tuple[Finding, ...] = ()
    refusal: str = ""
    mapping: Mapping[str, str] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """For a JSONL record."""
        return {
            "allowed": self.allowed,
            "text": self.text,
            "findings": [finding.as_dict() for finding in self.findings],
            "refusal": self.refusal,
        }
