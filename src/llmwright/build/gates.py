"""Quality gates: ``recall@5 >= 0.8``. A build whose figures miss one fails and says by how much.

A gate compares a metric's point value. Its interval stands beside it in the report: a gate that
is met by less than the interval's half width may fall on another sample of questions.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from llmwright.core import GateError, RecipeError, Score

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}

#: Every figure a build measures, by the name that gates use.
METRICS = (
    *(f"{name}@{k}" for name in ("recall", "precision", "ndcg") for k in (1, 3, 5, 10)),
    "mrr@10",
    "map@10",
    "exact_match",
    "token_f1",
    "groundedness",
    "citation_coverage",
    "perplexity",
    "perplexity_base",
)


def headline(scores: Iterable[Score]) -> list[Score]:
    """The scores a person looks at first: one of several that say nearly the same."""
    return [s for s in scores if not re.match(r"precision@|ndcg@[135]$", s.name)]


@dataclass(frozen=True, slots=True)
class Gate:
    """One demand on one metric."""

    metric: str
    compare: str
    bound: float

    def __str__(self) -> str:
        return f"{self.metric} {self.compare} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate held against what was measured. An unscored metric does not pass."""

    gate: Gate
    value: float | None
    passed: bool

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.gate} not met: {self.gate.metric} could not be computed"
        if self.passed:
            return f"{self.gate} met: {self.value:.3f}"
        short = abs(self.value - self.gate.bound)
        return f"{self.gate} not met: {self.value:.3f}, short by {short:.3f}"


def parse_gate(text: str) -> Gate:
    """Read ``metric >= number``. Raises ``RecipeError`` for anything else."""
    match = re.fullmatch(r"\s*([\w@]+)\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?)\s*", text)
    if not match:
        raise RecipeError(
            f"{text!r} is not a gate", fix="write it as 'recall@5 >= 0.8' with >=, <=, > or <"
        )
    metric, compare, bound = match.groups()
    if metric not in METRICS:
        near = difflib.get_close_matches(metric, METRICS, n=1, cutoff=0.5)
        raise RecipeError(
            f"no metric is called {metric!r}",
            fix=f"did you mean {near[0]!r}" if near else f"metrics: {', '.join(METRICS)}",
        )
    return Gate(metric, compare, float(bound))


def check_gates(gates: Sequence[Gate], scores: Mapping[str, Score]) -> list[GateResult]:
    """Hold each gate against the scores. A metric that was not measured does not pass."""
    results = []
    for gate in gates:
        value = scores[gate.metric].value if gate.metric in scores else None
        passed = value is not None and _COMPARE[gate.compare](value, gate.bound)
        results.append(GateResult(gate, value, passed))
    return results


def require_gates(results: Sequence[GateResult], where: str) -> None:
    """Raise ``GateError`` that names every gate not met."""
    missed = [str(result) for result in results if not result.passed]
    if missed:
        raise GateError(
            f"{len(missed)} of {len(results)} gates failed: {'; '.join(missed)}",
            where=where,
            fix="see the report there for the questions that went wrong",
        )
