"""What every evaluation gives: figures with intervals, and what they were counted from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmwright.core import Score


@dataclass(frozen=True, slots=True)
class Report:
    """``scores`` by name, and one JSON-ready record a question, in the questions' order."""

    scores: list[Score]
    records: list[dict[str, Any]]
