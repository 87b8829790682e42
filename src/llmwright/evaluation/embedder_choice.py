"""Which embedder for these documents and these questions: quality, speed and size, measured.

Each candidate makes an index of the documents and is asked every question twice, by its vectors
alone and together with the words (hybrid). The first candidate is what the others are held
against, with a paired bootstrap interval over the questions: public leaderboards average over
other people's documents, and a model that is better there by one point is often not told apart
here, while it takes ten times as long.

Cost: embedding every passage by every candidate.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmwright.core import Document, Embedder, InputError, Score, SearchMode
from llmwright.data import Question
from llmwright.evaluation.comparison import compare_reports
from llmwright.evaluation.report import Report
from llmwright.evaluation.retrieval import evaluate_retrieval

MODES: tuple[SearchMode, ...] = ("dense", "hybrid")
MEASURE = "ndcg@10"


@dataclass(frozen=True, slots=True)
class Candidate:
    """What an embedder was measured at. ``scores`` and ``differences`` (to the first candidate,
    paired by question) are by mode; ``passages_per_second`` counts the making of the index;
    ``bytes`` is a passage's vector in float32."""

    source: str
    dimension: int
    bytes: int
    passages: int
    passages_per_second: float
    scores: dict[SearchMode, Score]
    differences: dict[SearchMode, Score]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def compare_embedders(
    sources: Sequence[str],
    documents: Sequence[Document],
    questions: Sequence[Question],
    load: Callable[[str], Embedder],
    *,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> list[Candidate]:
    """Measure the embedders that ``load`` opens for ``sources``, in their order.

    Raises ``InputError`` without documents or sources.
    """
    from llmwright.retrieval import Index

    if not documents or not sources:
        raise InputError("nothing to compare", fix="give documents and at least one embedder")
    candidates: list[Candidate] = []
    first: dict[SearchMode, Report] = {}
    for source in sources:
        embedder = load(source)
        embedder.embed(["warm"])  # what is done once is not the speed
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            index = Index.create(Path(folder) / "index", embedder)
            index.upsert(documents)
            seconds = time.perf_counter() - began
            reports = {
                mode: evaluate_retrieval(
                    partial(index.search, mode=mode),
                    questions,
                    index.section_span,
                    ks=(10,),
                    seed=seed,
                )
                for mode in MODES
            }
            passages = int(index.stats()["chunks"])
        first = first or reports
        candidates.append(
            Candidate(
                source,
                embedder.dimension,
                4 * embedder.dimension,
                passages,
                passages / seconds,
                {mode: _of(report.scores) for mode, report in reports.items()},
                {m: _of(compare_reports(first[m], r, seed)) for m, r in reports.items()},
            )
        )
        say(f"{source}: {passages} passages in {seconds:.1f} s")
    return candidates


def recommended(candidates: Sequence[Candidate], mode: SearchMode = "hybrid") -> Candidate:
    """The one to take: the best of those that are better than the first one by an interval above
    0; where there is none, the fastest of those that are not told apart from it as worse."""
    better = [c for c in candidates if (c.differences[mode].low or 0) > 0]
    if better:
        return max(better, key=lambda c: c.scores[mode].value or 0)
    alike = [c for c in candidates if (c.differences[mode].high or 0) >= 0]
    return max(alike or candidates[:1], key=lambda c: c.passages_per_second)


def _of(scores: Sequence[Score]) -> Score:
    return next(score for score in scores if score.name == MEASURE)
