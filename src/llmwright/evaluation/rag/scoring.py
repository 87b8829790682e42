"""Score retrieval-augmented answers, retrieval and generation apart, by any judge.

A record is a question with the answer given, the passages it was given from, in the prompt's order,
and what is known of the truth. Where gold labels say which passages are relevant they are used;
else the judge is asked. A figure that cannot be computed is None: no passage, no reference, no
statement, a judge that does not tell, no embedder where a cosine is needed.

Records of any other program are read from JSONL: ``{"question", "answer", "contexts", "gold",
"relevant"}``. ``contexts`` are texts or ``{"id", "text"}``; ``relevant`` is a truth value for each
context, or the ids of all relevant passages; ``candidates``, the ids of a deeper ranking, lets
retrieval and ranking be told apart; ``answerable`` false marks a question that should be refused.
Cost: the judge's, about 4 + 2 passages verdicts a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmwright.core import Embedder, InputError, Score, kind_of, read_located_jsonl
from llmwright.evaluation.answer_metrics import exact_match, strip_citations, token_f1
from llmwright.evaluation.rag.citations import citation_quality
from llmwright.evaluation.rag.judging import Judge
from llmwright.evaluation.rag.metrics import (
    Verdict,
    answer_correctness,
    context_entity_recall,
    context_precision,
    noise_sensitivity,
    share,
    statement_f1,
)
from llmwright.statistics import mean_score

RETRIEVAL = ("context_precision", "context_recall", "context_entity_recall")
GENERATION = (
    "correct",
    "exact_match",
    "token_f1",
    "answer_correctness",
    "faithfulness",
    "answer_relevancy",
    "noise_sensitivity_relevant",
    "noise_sensitivity_irrelevant",
    "citation_recall",
    "citation_precision",
)
REFUSALS = ("refused_unanswerable", "refused_answerable")
_QUESTIONS = 3  # written by the judge for answer relevancy


@dataclass(frozen=True, slots=True)
class RagRecord:
    """``answer`` is None where none was given. ``relevant``: by context, from gold labels.
    ``found_at``: for each gold passage its rank among ``candidates`` hits, None where it is not
    there; ``candidates`` is None where only the contexts are known."""

    id: str
    question: str
    answer: str | None
    contexts: tuple[str, ...]
    gold: str | None
    answerable: bool = True
    relevant: tuple[bool, ...] | None = None
    found_at: tuple[int | None, ...] | None = None
    candidates: int | None = None


def score_record(
    record: RagRecord, judge: Judge, embedder: Embedder | None = None
) -> dict[str, float | None]:
    """Every figure of one record by its name."""
    figures: dict[str, float | None] = dict.fromkeys((*RETRIEVAL, *GENERATION, *REFUSALS))
    contexts, gold = record.contexts, record.gold if record.answerable else None
    stated = (judge.statements(record.question, gold) if gold else None) or []
    relevant = _relevant(record, judge)
    if record.answerable:
        figures["context_precision"] = context_precision(relevant)
    if gold:
        joined = "\n".join(contexts)
        figures["context_recall"] = share(judge.supported(joined, stated)) if contexts else 0.0
        figures["context_entity_recall"] = context_entity_recall(gold, contexts)
    if record.answer is None:
        return figures
    refused = judge.refuses(record.question, record.answer)
    name = "refused_answerable" if record.answerable else "refused_unanswerable"
    figures[name] = None if refused is None else float(refused)
    if not record.answerable:
        figures["correct"] = figures[name]
        return figures
    figures |= _of_answer(record, record.answer, gold, stated, relevant, refused, judge, embedder)
    return figures


def _of_answer(
    record: RagRecord,
    answer: str,
    gold: str | None,
    stated: Sequence[str],
    relevant: Sequence[Verdict],
    refused: Verdict,
    judge: Judge,
    embedder: Embedder | None,
) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    plain = strip_citations(answer)
    if gold:
        figures["exact_match"] = exact_match(answer, gold)
        figures["token_f1"] = token_f1(answer, gold)
    if refused:  # it claims nothing that could be faithful or cited, and does not help
        figures["answer_relevancy"] = 0.0
        return figures | ({"correct": 0.0, "answer_correctness": 0.0} if gold else {})
    claimed = judge.statements(record.question, answer)
    if claimed and record.contexts:
        joined = "\n".join(record.contexts)
        figures["faithfulness"] = share(judge.supported(joined, claimed))
    if gold and claimed is not None:
        right = judge.supported(f"{record.question} {gold}", claimed)
        held = judge.supported(plain, stated)
        whole = share(held)
        figures["correct"] = None if whole is None else float(whole == 1.0)
        similarity = _cosine(embedder, gold, [plain])
        figures["answer_correctness"] = answer_correctness(statement_f1(right, held), similarity)
        wrong = [None if verdict is None else not verdict for verdict in right]
        by_passage = [judge.supported(text, claimed) for text in record.contexts] if claimed else []
        sensitivity = noise_sensitivity(wrong, by_passage, relevant)
        figures |= {
            f"noise_sensitivity_{kind}": value
            for kind, value in zip(("relevant", "irrelevant"), sensitivity, strict=True)
        }
    if embedder is not None:
        asked = judge.questions(plain, _QUESTIONS)
        # A judge that writes no questions: the cosine of question and answer themselves.
        figures["answer_relevancy"] = _cosine(embedder, record.question, asked or [plain])
    if record.contexts:
        quality = citation_quality(answer, record.contexts, judge)
        figures["citation_recall"], figures["citation_precision"] = quality
    return figures


def score_means(records: Sequence[dict[str, Any]], seed: int = 0) -> dict[str, list[Score]]:
    """The mean of each figure with its interval, by part."""
    parts = {"retrieval": RETRIEVAL, "generation": GENERATION, "refusals": REFUSALS}
    return {
        part: [mean_score(name, [r["metrics"][name] for r in records], seed) for name in names]
        for part, names in parts.items()
    }


def read_rag_records(path: Path) -> list[RagRecord]:
    """Read stored records. Raises ``InputError`` with the line of the first that is broken."""
    return [
        _read(where, record, n) for n, (where, record) in enumerate(read_located_jsonl(path), 1)
    ]


def _relevant(record: RagRecord, judge: Judge) -> list[Verdict]:
    if record.relevant is not None:
        return list(record.relevant)
    if not record.gold or not record.answerable:
        return [None] * len(record.contexts)
    return [judge.useful(record.question, record.gold, text) for text in record.contexts]


def _cosine(embedder: Embedder | None, text: str, others: Sequence[str]) -> float | None:
    """Mean cosine, negative ones as 0."""
    if embedder is None or not text.strip() or not any(other.strip() for other in others):
        return None
    vectors = embedder.embed([text, *others])  # [1 + others, dimension]
    return float((vectors[1:] @ vectors[0]).clip(0.0, 1.0).mean())


def _read(where: str, record: dict[str, Any], number: int) -> RagRecord:
    def text(name: str, needed: bool = False) -> str | None:
        value = record.get(name)
        if (value is None and not needed) or (isinstance(value, str) and value.strip()):
            return value
        raise InputError(
            f"the field {name!r} is {kind_of(value)}" if name in record else f"has no {name!r}",
            where=where,
            fix='a record is {"question", "answer", "contexts", "gold", "relevant"}',
        )

    contexts = record.get("contexts")
    parts = [c if isinstance(c, dict) else {"text": c} for c in contexts or []]
    if not isinstance(contexts, list) or not all(isinstance(p.get("text"), str) for p in parts):
        raise InputError(
            "the field 'contexts' is not a list of passages",
            where=where,
            fix='give a list of texts, or of objects with "id" and "text"',
        )
    ids = [str(part.get("id", "")) for part in parts]
    flags, found_at = _labels(record, ids, where)
    candidates = record.get("candidates")
    answerable = record.get("answerable", True)
    if not isinstance(answerable, bool):
        raise InputError("'answerable' is not true or false", where=where, fix="mend it")
    return RagRecord(
        id=str(record.get("id", number)),
        question=text("question", needed=True) or "",
        answer=text("answer"),
        contexts=tuple(part["text"] for part in parts),
        gold=text("gold"),
        answerable=answerable,
        relevant=flags,
        found_at=found_at,
        candidates=len(candidates) if isinstance(candidates, list) else None,
    )


def _labels(
    record: dict[str, Any], ids: Sequence[str], where: str
) -> tuple[tuple[bool, ...] | None, tuple[int | None, ...] | None]:
    """By context whether it is relevant, and the rank of each gold passage."""
    relevant, candidates = record.get("relevant"), record.get("candidates")
    if relevant is None:
        return None, None
    flags = isinstance(relevant, list) and all(isinstance(flag, bool) for flag in relevant)
    if flags and relevant and len(relevant) == len(ids):
        first = next((rank for rank, flag in enumerate(relevant, 1) if flag), None)
        return tuple(relevant), (first,)
    if not isinstance(relevant, list) or not all(isinstance(i, str) for i in relevant):
        raise InputError(
            "'relevant' is neither a truth value for each context nor a list of ids",
            where=where,
            fix='write "relevant": [true, false] or ["id of a passage", ...]',
        )
    if any(not identity for identity in ids):
        raise InputError(
            "'relevant' names ids, but the contexts have none",
            where=where,
            fix='write contexts as {"id", "text"}',
        )
    ranked = [str(i) for i in candidates] if isinstance(candidates, list) else list(ids)
    places = tuple(ranked.index(i) + 1 if i in ranked else None for i in relevant)
    return tuple(i in relevant for i in ids), places
