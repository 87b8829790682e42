"""TREC runs and judgements: read, and scored as trec_eval scores them.

A run has a line for each document found, ``query Q0 document rank score tag``; the judgements
(qrels) have ``query 0 document grade``. The rank in the file is not looked at: documents are
ordered by score, and equal scores by their ids from Z to A, which is trec_eval's rule, so figures
equal those of other tools digit for digit. A grade of 0 or below is not relevant.

A judged query for which the run holds nothing scores 0 (``trec_eval -c``): leaving it out would
reward a system for staying silent. A query without a relevant document is unscored. Queries that
nobody judged are not looked at. Cost: a sort a query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmwright.core import ConfigurationError, InputError, read_text
from llmwright.evaluation.report import Report
from llmwright.evaluation.retrieval_metrics import (
    average_precision,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
)
from llmwright.statistics import mean_score

Run = Mapping[str, Mapping[str, float]]
"""For each query the documents found, with their scores."""

Judgements = Mapping[str, Mapping[str, float]]
"""For each query the documents judged, with their grades."""


def read_run(path: Path) -> dict[str, dict[str, float]]:
    """Read a TREC run. A document listed twice for a query keeps its best score. Raises
    ``InputError`` with the line that is not one of a run."""
    run: dict[str, dict[str, float]] = {}
    for where, fields in _lines(path, 6, "query Q0 document rank score tag"):
        query, _, document, _, score, _ = fields
        found = run.setdefault(query, {})
        value = _number(score, "score", where)
        found[document] = max(value, found.get(document, value))
    return run


def read_judgements(path: Path) -> dict[str, dict[str, float]]:
    """Read TREC judgements. Raises ``InputError`` with the line that is not one."""
    judged: dict[str, dict[str, float]] = {}
    for where, (query, _, document, grade) in _lines(path, 4, "query 0 document grade"):
        judged.setdefault(query, {})[document] = _number(grade, "grade", where)
    return judged


def evaluate_run(
    run: Run, judgements: Judgements, *, ks: Sequence[int] = (1, 3, 5, 10), seed: int = 0
) -> Report:
    """Recall, precision and nDCG at each of ``ks``, reciprocal rank and average precision over the
    whole list, for every judged query. Raises ``ConfigurationError`` for ks that are none."""
    if not ks or min(ks) < 1:
        raise ConfigurationError(
            f"ks is {tuple(ks)}", where="run evaluation", fix="give whole numbers from 1 up"
        )
    records: list[dict[str, Any]] = []
    for query, grades in judgements.items():
        ranked = ranking(run.get(query, {}))
        metrics: dict[str, float | None] = {}
        for k in sorted(set(ks)):
            metrics[f"recall@{k}"] = recall_at_k(ranked, grades, k)
            metrics[f"precision@{k}"] = precision_at_k(ranked, grades, k)
            metrics[f"ndcg@{k}"] = ndcg_at_k(ranked, grades, k)
        metrics["mrr"] = reciprocal_rank(ranked, grades)
        metrics["map"] = average_precision(ranked, grades)
        records.append({"id": query, "found": len(ranked), "metrics": metrics})
    names = list(records[0]["metrics"]) if records else []
    scores = [mean_score(name, [r["metrics"][name] for r in records], seed) for name in names]
    return Report(scores, records)


def ranking(found: Mapping[str, float]) -> list[str]:
    """Document ids by falling score, equal scores by falling id, as trec_eval orders them."""
    return [document for _, document in sorted(((s, d) for d, s in found.items()), reverse=True)]


def _lines(path: Path, count: int, form: str) -> list[tuple[str, list[str]]]:
    lines = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        where = f"{path}, line {number}"
        fields = line.split()
        if fields and len(fields) != count:
            raise InputError(f"has {len(fields)} fields", where=where, fix=f"write: {form}")
        if fields:
            lines.append((where, fields))
    if not lines:
        raise InputError("holds nothing", where=str(path), fix=f"each line is: {form}")
    return lines


def _number(text: str, name: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value:  # "nan" has no place in an order
        raise InputError(f"the {name} {text!r} is no number", where=where, fix="mend it")
    return value
