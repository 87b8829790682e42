"""Measure a search function on questions whose answering passages are known, apart from any
generation.

A gold label ("lora.md", "lora.md#rank") is a span of characters, so one question set measures
every way of chunking. A hit finds a span when it is of that document and its chunk overlaps the
span by at least half of the shorter of the two:

    overlap(chunk, span) >= min(|chunk|, |span|) / 2

With r_1 <= r_2 <= ... the ranks at which the n gold spans are first found, for each k:

    recall@k    = |{i: r_i <= k}| / n
    precision@k = |hits that find any span among the first k| / k
    nDCG@k      = sum_{i <= k, r_i <= k} 1/log2(1 + max(r_i, i)) / sum_{i <= k, n} 1/log2(1 + i)
    mrr@K       = 1 / r_1 with K the largest k asked for
    map@K       = sum_{i: r_i <= K} i / max(r_i, i) / n

Several chunks of one span do not gain twice, and one chunk that finds two spans counts as if the
second stood at the next rank, so nDCG and MAP stay in [0, 1]; where every chunk finds one span, all
of them equal the common definitions (``retrieval_metrics``).
Cost: one search for each question, for the largest k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from llmwright.core import Chunk, ConfigurationError, Hit, progress
from llmwright.data import Question
from llmwright.evaluation.report import Report
from llmwright.statistics import mean_score

Span = tuple[str, int, int]
"""Document id, start, end (characters of the document's text)."""


def evaluate_retrieval(
    search: Callable[[str, int], Sequence[Hit]],
    questions: Sequence[Question],
    spans: Callable[[str], Span],
    *,
    ks: Sequence[int] = (1, 3, 5, 10),
    seed: int = 0,
) -> Report:
    """Ask ``search(question, max(ks))`` for every question and score what comes back.

    ``spans`` resolves a gold label and raises its own error for one that names nothing. A
    question without gold labels is searched for and recorded, but unscored.
    """
    if not ks or min(ks) < 1:
        raise ConfigurationError(
            f"ks is {tuple(ks)}", where="retrieval evaluation", fix="give whole numbers from 1 up"
        )
    ks = sorted(set(ks))
    # Labels first: a wrong one should fail before an hour of searching, not after.
    gold = [[spans(label) for label in dict.fromkeys(q.relevant)] for q in questions]
    records = []
    with progress("retrieval", total=len(questions), unit="questions") as advance:
        for question, targets in zip(questions, gold, strict=True):
            hits = search(question.question, ks[-1])[: ks[-1]]
            records.append(_record(question, targets, hits, ks))
            advance(1)
    names = list(_metrics([], [], 0, ks))
    scores = [mean_score(name, [r["metrics"][name] for r in records], seed) for name in names]
    return Report(scores, records)


def finds(chunk: Chunk, span: Span) -> bool:
    """Whether the chunk overlaps the span by at least half of the shorter of the two."""
    document, start, end = span
    overlap = min(chunk.end, end) - max(chunk.start, start)
    shorter = min(chunk.end - chunk.start, end - start)
    return chunk.document_id == document and overlap > 0 and 2 * overlap >= shorter


def _record(
    question: Question, targets: Sequence[Span], hits: Sequence[Hit], ks: Sequence[int]
) -> dict[str, Any]:
    found = [[i for i, span in enumerate(targets) if finds(hit.chunk, span)] for hit in hits]
    first: dict[int, int] = {}  # gold span -> the rank at which it is first found
    for rank, spans in enumerate(found, start=1):
        for i in spans:
            first.setdefault(i, rank)
    return {
        "id": question.id,
        "question": question.question,
        "relevant": list(question.relevant),
        "found_at": [first.get(i) for i in range(len(targets))],
        "hits": [
            {
                "rank": rank,
                "id": hit.chunk.id,
                "document_id": hit.chunk.document_id,
                "relevant": bool(spans),
                "ranks": dict(hit.ranks),
            }
            for rank, (hit, spans) in enumerate(zip(hits, found, strict=True), start=1)
        ],
        "metrics": _metrics(sorted(first.values()), [bool(s) for s in found], len(targets), ks),
    }


def _metrics(
    ranks: Sequence[int], relevant: Sequence[bool], spans: int, ks: Sequence[int]
) -> dict[str, float | None]:
    """``ranks`` of the found spans, ascending; ``relevant`` by hit; ``spans`` in all."""
    result: dict[str, float | None] = {}
    for k in ks:
        within = [rank for rank in ranks if rank <= k]
        gained = [1 / math.log2(1 + max(r, i)) for i, r in enumerate(within[:k], start=1)]
        best = [1 / math.log2(1 + i) for i in range(1, min(spans, k) + 1)]
        result[f"recall@{k}"] = len(within) / spans if spans else None
        result[f"precision@{k}"] = sum(relevant[:k]) / k if spans else None
        result[f"ndcg@{k}"] = math.fsum(gained) / math.fsum(best) if spans else None
    result[f"mrr@{ks[-1]}"] = (1 / ranks[0] if ranks else 0.0) if spans else None
    precisions = [i / max(rank, i) for i, rank in enumerate(ranks, start=1)]
    result[f"map@{ks[-1]}"] = math.fsum(precisions) / spans if spans else None
    return result
