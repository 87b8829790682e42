"""What a measurement of long contexts comes to: figures with intervals, out of its records.

A record is one pass: ``{"kind": "perplexity", "method", "tuned", "text", "lengths", "places",
"logprobs"}``, or ``{"kind": "needles", "method", "tuned", "trial", "length", "found": [...]}``. The
interval of a perplexity is exp of that of the mean; both are over places, which in one text are
not independent, so it is somewhat too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from llmwright.core import Score
from llmwright.statistics import mean_score, paired_bootstrap

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ContextReport:
    """The records of all passes, and what they come to."""

    records: tuple[Record, ...]
    trained: int
    factor: float

    def perplexity(self, method: str, length: int, *, tuned: bool = False) -> Score:
        """Perplexity at ``length``, its interval over places; without a value where none was
        measured."""
        score = mean_score("perplexity", [-x for x in self.logprobs(method, length, tuned=tuned)])
        if score.value is None or score.low is None or score.high is None:
            return score
        return replace(
            score,
            value=math.exp(score.value),
            low=math.exp(score.low),
            high=math.exp(score.high),
        )

    def gain(self, method: str, over: str, length: int) -> Score:
        """Mean log-probability a token of ``method`` less that of ``over``, in nats, paired by
        place."""
        return paired_bootstrap(self.logprobs(over, length), self.logprobs(method, length))

    def logprobs(self, method: str, length: int, *, tuned: bool = False) -> list[float]:
        """Log-probabilities at the places from ``length / 2`` on, up to ``length``."""
        return [
            logprob
            for place, logprob in self.curve(method, length, tuned=tuned)
            if length // 2 <= place < length
        ]

    def curve(self, method: str, length: int, *, tuned: bool = False) -> list[tuple[int, float]]:
        """(place, log-probability) below ``length``, of all texts."""
        return [
            pair
            for record in self._of("perplexity", method, tuned)
            if length in record["lengths"]
            for pair in zip(record["places"], record["logprobs"], strict=True)
            if pair[0] < length
        ]

    def found(
        self, method: str, length: int, depth: float | None = None, *, tuned: bool = False
    ) -> Score:
        """Share of needles whose number was the likeliest of those in the text."""
        return mean_score(
            "found",
            [
                float(needle["rank"] == 1)
                for record in self._of("needles", method, tuned)
                if record["length"] == length
                for needle in record["found"]
                if depth is None or needle["depth"] == depth
            ],
        )

    def written(self, method: str, length: int, *, tuned: bool = False) -> Score:
        """Share of needles whose number was written out by greedy decoding."""
        return mean_score(
            "written",
            [
                float(needle["written"].strip() == needle["number"])
                for record in self._of("needles", method, tuned)
                if record["length"] == length
                for needle in record["found"]
            ],
        )

    def rows(self) -> list[Record]:
        """A row for each method, tuned or not, and length, as tables and programs want it."""
        keys = dict.fromkeys(
            (record["method"], record["tuned"], length)
            for record in self.records
            for length in (record.get("lengths") or [record["length"]])
        )
        rows = []
        for method, tuned, length in sorted(keys, key=lambda key: (key[1], key[2])):
            perplexity = self.perplexity(method, length, tuned=tuned)
            found = self.found(method, length, tuned=tuned)
            written = self.written(method, length, tuned=tuned)
            rows.append(
                {
                    "method": method,
                    "tuned": tuned,
                    "length": length,
                    "factor": self.factor,
                    "perplexity": perplexity.value,
                    "low": perplexity.low,
                    "high": perplexity.high,
                    "places": perplexity.n,
                    "found": found.value,
                    "written": written.value,
                    "needles": found.n,
                }
            )
        return rows

    def _of(self, kind: str, method: str, tuned: bool) -> Iterator[Record]:
        for record in self.records:
            if (record["kind"], record["method"], record["tuned"]) == (kind, method, tuned):
                yield record
