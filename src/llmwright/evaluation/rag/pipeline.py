"""A whole pipeline, asked every question once, each part of it recorded and judged.

For each question: the first 100 candidates of the search, the ``top`` of them that the answerer may
use, the passages that its prompt held (``completion.sources``), and the answer; scored by
`scoring` and attributed by `attribution`. A wrong answer is given once more with the gold passages
first, which tells what perfect retrieval, ranking and order would bring.

The answerer is given as a function from a search to a chat model, so that what is measured is the
user's own, and the oracle is the same answerer with another search. Without one, retrieval and
ranking are measured alone. Finished questions are kept, and a run that was stopped goes on.
Costs one search and one answer a question, one more for a wrong one, and the judge's verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmwright.core import (
    ChatModel,
    Chunk,
    Completion,
    ConfigurationError,
    Embedder,
    Hit,
    Journal,
    LLMwrightError,
    Message,
    SamplingParams,
    Score,
    Search,
    canonical_json,
    content_hash,
    progress,
    waited,
)
from llmwright.data import Question
from llmwright.evaluation.rag.attribution import (
    Facts,
    blame,
    bottleneck,
    count_parts,
    is_right,
    perfect_parts,
)
from llmwright.evaluation.rag.judging import Judge, LexicalJudge
from llmwright.evaluation.rag.scoring import RagRecord, score_means, score_record
from llmwright.evaluation.retrieval import Span, finds

DEPTH = 100


@dataclass(frozen=True, slots=True)
class RagReport:
    """``scores`` by part ("retrieval", "generation", "refusals"); the share of questions owed to
    each of ``parts``; the share of right answers if each part were ``perfect``; the
    ``bottleneck``; and a record a question."""

    scores: dict[str, list[Score]]
    parts: list[Score]
    perfect: list[Score]
    bottleneck: str | None
    records: list[dict[str, Any]]

    @classmethod
    def of(cls, records: list[dict[str, Any]], seed: int = 0) -> RagReport:
        parts = count_parts(records, seed)
        return cls(
            score_means(records, seed),
            parts,
            perfect_parts(records, seed),
            bottleneck(parts),
            records,
        )


def evaluate_rag(
    questions: Sequence[Question],
    search: Search,
    spans: Callable[[str], Span],
    *,
    records_path: Path,
    answerer: Callable[[Search], ChatModel] | None = None,
    passages: Callable[[Span], Sequence[Chunk]] | None = None,
    judge: Judge | None = None,
    embedder: Embedder | None = None,
    top: int = 3,
    params: SamplingParams | None = None,
    run: str = "",
    seed: int = 0,
) -> RagReport:
    """Ask and attribute. ``spans`` resolves gold labels as in ``evaluate_retrieval``; ``passages``
    gives the chunks of a span, for the oracle. ``run`` names what is measured: a run that was cut
    off goes on only under the same name. Raises ``ConfigurationError`` for a ``top`` that is none.
    """
    if not 1 <= top <= DEPTH:
        raise ConfigurationError(f"top is {top}", where="RAG evaluation", fix=f"give 1 to {DEPTH}")
    judge = judge or LexicalJudge()
    params = params or SamplingParams(max_tokens=96)
    gold = [[spans(label) for label in dict.fromkeys(q.relevant)] for q in questions]
    asked = [(q.id, q.question, q.answer, q.relevant, q.answerable) for q in questions]
    told = [run, judge.name, embedder is not None, top, repr(params), answerer is not None, asked]
    journal = Journal(records_path, content_hash(canonical_json(told)))
    with progress("RAG", total=len(questions), unit="questions") as advance:
        advance(len(journal.done))
        for place, (question, targets) in enumerate(zip(questions, gold, strict=True)):
            if place in journal.done:
                continue
            hits = list(search(question.question, DEPTH))[:DEPTH]
            asking = _Asking(
                question, targets, hits, answerer, passages, judge, embedder, top, params
            )
            journal.add(place, asking.record())
            advance(1)
    return RagReport.of(journal.finish(), seed)


def evaluate_rag_records(
    stored: Sequence[RagRecord],
    *,
    judge: Judge | None = None,
    embedder: Embedder | None = None,
    seed: int = 0,
) -> RagReport:
    """Score and attribute what any program has answered. Whether the prompt lost a passage or its
    order was bad cannot be seen in stored records: there is no oracle."""
    judge = judge or LexicalJudge()
    records = []
    with progress("RAG", total=len(stored), unit="records") as advance:
        for record in stored:
            metrics = score_record(record, judge, embedder)
            facts = Facts(
                answerable=record.answerable,
                found_at=record.found_at,
                candidates=record.candidates,
                top=len(record.contexts),
                shown=None if record.relevant is None else any(record.relevant),
                right=is_right(metrics),
                asked=record.answer is not None,
            )
            records.append(_written(record, metrics, facts, None))
            advance(1)
    return RagReport.of(records, seed)


@dataclass(frozen=True)
class _Asking:
    """One question on its way through the pipeline."""

    question: Question
    targets: Sequence[Span]
    hits: Sequence[Hit]
    answerer: Callable[[Search], ChatModel] | None
    passages: Callable[[Span], Sequence[Chunk]] | None
    judge: Judge
    embedder: Embedder | None
    top: int
    params: SamplingParams

    def record(self) -> dict[str, Any]:
        completion, error = self._answer(self.hits[: self.top])
        sources = completion.sources if completion and completion.sources else ()
        # Without an answer the hits stand for the prompt.
        shown = sources if self.answerer is not None else tuple(self.hits[: self.top])
        record = self._judged(completion, shown)
        metrics = score_record(record, self.judge, self.embedder)
        right = is_right(metrics)
        held = all(any(finds(hit.chunk, span) for hit in shown) for span in self.targets)
        oracle: Completion | None = None
        again: bool | None = None
        if right is False and self.targets and self.question.answerable:
            oracle, _ = self._answer(self._with_gold())
            if oracle is not None:
                judged = self._judged(oracle, oracle.sources)
                again = is_right(score_record(judged, self.judge, self.embedder))
        facts = Facts(
            answerable=self.question.answerable,
            found_at=record.found_at,
            candidates=len(self.hits),
            top=self.top,
            shown=None if error or not self.targets else held,
            right=right,
            right_with_gold=again,
            asked=self.answerer is not None,
        )
        written = _written(record, metrics, facts, oracle.text if oracle else None)
        return {**written, "error": error, "sources": [hit.chunk.id for hit in shown]}

    def _judged(self, completion: Completion | None, shown: Sequence[Hit]) -> RagRecord:
        first = [
            next((r for r, hit in enumerate(self.hits, 1) if finds(hit.chunk, span)), None)
            for span in self.targets
        ]
        return RagRecord(
            id=self.question.id,
            question=self.question.question,
            answer=completion.text if completion is not None else None,
            contexts=tuple(hit.chunk.text for hit in shown),
            gold=self.question.answer,
            answerable=self.question.answerable,
            relevant=tuple(any(finds(h.chunk, s) for s in self.targets) for h in shown)
            if self.targets
            else None,
            found_at=tuple(first) if self.targets else None,
            candidates=len(self.hits),
        )

    def _answer(self, hits: Sequence[Hit]) -> tuple[Completion | None, str | None]:
        if self.answerer is None:
            return None, None
        model = self.answerer(lambda query, top: hits[:top])
        try:
            asked = [Message("user", self.question.question)]
            return waited(model.complete(asked, self.params)), None
        except LLMwrightError as failure:
            return None, str(failure)

    def _with_gold(self) -> list[Hit]:
        """The hits with a gold passage for each span in front."""
        best = []
        for span in self.targets:
            known = [hit.chunk for hit in self.hits if finds(hit.chunk, span)]
            chunks = list(self.passages(span)) if self.passages is not None else known
            if chunks:
                best.append(max(chunks, key=self._holds))
        ids = [chunk.id for chunk in best]
        return [
            *(Hit(chunk, 1.0) for chunk in {chunk.id: chunk for chunk in best}.values()),
            *(hit for hit in self.hits if hit.chunk.id not in ids),
        ]

    def _holds(self, chunk: Chunk) -> tuple[bool, float]:
        """How well a chunk of a gold span answers: a section may be many chunks long."""
        told = LexicalJudge().supported(chunk.text, [self.question.answer, self.question.question])
        return bool(told[0]), sum(map(bool, told))


def _written(
    record: RagRecord, metrics: dict[str, float | None], facts: Facts, oracle: str | None
) -> dict[str, Any]:
    return {
        **asdict(record),
        "right": facts.right,
        "shown": facts.shown,
        "part": blame(facts),
        "answer_with_gold": oracle,
        "right_with_gold": facts.right_with_gold,
        "metrics": metrics,
    }
