"""What shorter and coarser vectors cost in quality, on questions whose passages are known.

For each number of dimensions the passages are ranked by the cosine of the leading coordinates,
cut and scaled to length 1 again (Kusupati et al., 2022, "Matryoshka Representation Learning", arXiv
2205.13147); once more as a shortlist that the full vectors rank again; and the whole vectors are
tried in one byte and in one bit a dimension. Every form is held against the full vectors with a
paired bootstrap interval over the questions.

Cost: the questions are embedded once; each form is one comparison of all questions with all
passages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llmwright.core import Chunk, ConfigurationError, Hit, Score, progress
from llmwright.data import Question
from llmwright.evaluation.comparison import compare_reports
from llmwright.evaluation.report import Report
from llmwright.evaluation.retrieval import Span, evaluate_retrieval
from llmwright.retrieval.dense import Int8Vectors, ShortVectors, SignVectors, two_steps

DEPTH = 10
MEASURES = (f"ndcg@{DEPTH}", f"recall@{DEPTH}")

Floats = NDArray[np.float32]
Kind = Literal["full", "short", "coded"]


@dataclass(frozen=True, slots=True)
class VectorForm:
    """One way of keeping vectors: in full, cut short, or in fewer bits. ``bytes`` is what the first
    ranking reads of a passage; ``shortlist`` how many of it full vectors rank again, 0 for none.
    ``scores`` and ``differences`` (to the full vectors, paired by question) are those of
    ``MEASURES``."""

    kind: Kind
    name: str
    dimension: int
    bytes: float
    shortlist: int
    scores: tuple[Score, ...]
    differences: tuple[Score, ...]

    def kept(self, full: VectorForm, measure: str = MEASURES[0]) -> float | None:
        """The share of the full vectors' figure; None where either is unscored or that is 0."""
        mine, theirs = self.score(measure).value, full.score(measure).value
        return None if mine is None or not theirs else mine / theirs

    def score(self, measure: str) -> Score:
        """A figure by its name."""
        return next(score for score in self.scores if score.name == measure)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def measure_dimensions(
    chunks: Sequence[Chunk],
    vectors: Floats,
    queries: Floats,
    questions: Sequence[Question],
    spans: Callable[[str], Span],
    *,
    dimensions: Sequence[int],
    shortlist: int = 100,
    seed: int = 0,
) -> list[VectorForm]:
    """The forms of ``vectors`` [chunks, d], asked with ``queries`` [questions, d]: full, then by
    falling size, each short one alone and as a shortlist. ``spans`` resolves gold labels.

    Raises ``ConfigurationError`` for dimensions that the vectors do not have.
    """
    size = vectors.shape[1]
    wrong = [number for number in dimensions if not 1 <= number <= size]
    if wrong or shortlist < DEPTH:
        raise ConfigurationError(
            f"dimensions {tuple(dimensions)}, shortlist {shortlist}",
            where=f"vectors of {size}",
            fix=f"give dimensions from 1 to {size}, and a shortlist of at least {DEPTH}",
        )
    shorter = sorted({*dimensions} - {size}, reverse=True)
    plans: list[tuple[Kind, str, Any, int]] = [
        ("full", "full", ShortVectors(vectors, size), size),
        *(("short", f"{k} of {size}", ShortVectors(vectors, k), k) for k in shorter),
        ("coded", "INT8", Int8Vectors(vectors), size),
        ("coded", "signs", SignVectors(vectors), size),
    ]
    forms: list[VectorForm] = []
    full: Report | None = None
    steps = [(plan, look) for plan in plans for look in (0, shortlist)]
    steps.remove((plans[0], shortlist))  # full vectors need no second look
    with progress("forms of vectors", total=len(steps), unit="forms") as advance:
        for (kind, name, form, number), look in steps:
            report = _report(chunks, vectors, form, queries, questions, spans, look, seed)
            full = full or report
            forms.append(
                VectorForm(
                    kind,
                    name,
                    number,
                    form.nbytes / max(1, len(chunks)),
                    look,
                    _chosen(report.scores),
                    _chosen(compare_reports(full, report, seed)),
                )
            )
            advance(1)
    return forms


def _report(
    chunks: Sequence[Chunk],
    vectors: Floats,
    form: Any,
    queries: Floats,
    questions: Sequence[Question],
    spans: Callable[[str], Span],
    shortlist: int,
    seed: int,
) -> Report:
    if shortlist:
        looked = two_steps(form, vectors.__getitem__, queries, DEPTH, shortlist)
        found = [[row for row, _ in hits] for hits in looked]
    else:
        found = [rows.tolist() for rows in form.nearest(queries, DEPTH)]
    ranked = {q.question: rows for q, rows in zip(questions, found, strict=True)}

    def search(query: str, top: int) -> list[Hit]:
        return [
            Hit(chunks[row], -float(rank), {"dense": rank})
            for rank, row in enumerate(ranked[query][:top], start=1)
        ]

    return evaluate_retrieval(search, questions, spans, ks=(DEPTH,), seed=seed)


def _chosen(scores: Sequence[Score]) -> tuple[Score, ...]:
    return tuple(score for name in MEASURES for score in scores if score.name == name)
