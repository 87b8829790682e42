"""Ask a model every question of a set and score its answers, one kept record at a time.

Each record is appended and flushed when its answer is there, so a run that is killed loses only
the questions then in flight; running again with the same file asks those that are left. At the
end the file is rewritten in the questions' order. Records hold no clock time: the same answers
give the same bytes, and a release's hash can cover them.

This is not ``core.Journal``, which begins anew for another run and forgets a finished one: here the
file of a finished run answers for it, and that of another run is somebody's results.

A model that fails on a question (any ``LLMwrightError``) leaves a record with its ``error`` and
no figures: unscored, not 0. A later run asks such a question again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmwright.core import (
    ChatModel,
    Completion,
    ConfigurationError,
    InputError,
    LLMwrightError,
    Message,
    SamplingParams,
    Score,
    append_jsonl,
    atomic_write,
    progress,
    read_jsonl,
    write_jsonl,
)
from llmwright.data import Question
from llmwright.evaluation.answer_metrics import exact_match, token_f1
from llmwright.evaluation.groundedness import groundedness
from llmwright.evaluation.report import Report
from llmwright.statistics import mean_score

FIGURES = ("exact_match", "token_f1", "groundedness", "citation_coverage")


def score_answer(
    answer: str, gold: str | Sequence[str] | None, sources: Sequence[str]
) -> dict[str, float | None]:
    """The figures of one answer; None where there is no reference or nothing to check."""
    checked = groundedness(answer, sources)
    return {
        "exact_match": exact_match(answer, gold) if gold else None,
        "token_f1": token_f1(answer, gold) if gold else None,
        "groundedness": checked.groundedness,
        "citation_coverage": checked.citation_coverage,
    }


def score_records(records: Sequence[dict[str, Any]], seed: int = 0) -> list[Score]:
    """The mean of each figure over records, with its interval."""
    return [mean_score(name, [record[name] for record in records], seed) for name in FIGURES]


async def evaluate_answers(
    model: ChatModel,
    questions: Sequence[Question],
    *,
    params: SamplingParams | None = None,
    records_path: Path,
    concurrency: int = 1,
    seed: int = 0,
    run: str = "",
) -> Report:
    """Ask ``questions`` of ``model``, ``concurrency`` at a time.

    ``run`` names what is being evaluated (say the hash of model, index and prompt); it is kept in
    each record, and a file begun under another name is refused rather than mixed in. So is one
    whose questions or reference answers differ. Raises ``InputError`` for these.
    """
    if concurrency < 1:
        raise ConfigurationError(
            f"concurrency is {concurrency}", where="answer evaluation", fix="use 1 or more"
        )
    _check_ids(questions)
    params = params or SamplingParams()
    done = _resume(records_path, questions, params, run)
    waiting = iter([question for question in questions if question.id not in done])

    with progress("answers", total=len(questions), unit="questions") as advance:
        advance(len(done))

        async def work() -> None:
            for question in waiting:  # shared: each worker takes the next question
                record = await _ask(model, question, params, run)
                append_jsonl(records_path, record)
                done[question.id] = record
                advance(1)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(work())
        except* LLMwrightError as several:  # the first one is what the user can act on
            raise several.exceptions[0] from None

    records = [done[question.id] for question in questions]
    write_jsonl(records_path, records)
    return Report(score_records(records, seed), records)


async def _ask(
    model: ChatModel, question: Question, params: SamplingParams, run: str
) -> dict[str, Any]:
    error = None
    completion = Completion("")
    try:
        completion = await model.complete([Message("user", question.question)], params)
    except LLMwrightError as failure:
        error = str(failure)
    sources = [
        {"id": hit.chunk.id, "document_id": hit.chunk.document_id, "text": hit.chunk.text}
        for hit in completion.sources
    ]
    figures: dict[str, float | None] = dict.fromkeys(FIGURES)
    if error is None:
        passages = [hit.chunk.text for hit in completion.sources]
        figures = score_answer(completion.text, question.answer, passages)
    return {
        **_asked(question, params, run),
        "answer": completion.text if error is None else None,
        "sources": sources,
        "finish_reason": completion.finish_reason if error is None else None,
        **figures,
        "usage": {
            "prompt_tokens": completion.usage.prompt_tokens,
            "completion_tokens": completion.usage.completion_tokens,
        },
        "error": error,
    }


def _asked(question: Question, params: SamplingParams, run: str) -> dict[str, Any]:
    """What a record was asked with: equal for two runs that may share a file."""
    return {
        "id": question.id,
        "question": question.question,
        "gold": question.answer,
        "run": run,
        "params": _written(params),
    }


def _written(params: SamplingParams) -> dict[str, Any]:
    """The parameters as JSON has them: the common ones always, others where they do something."""
    given: dict[str, Any] = json.loads(json.dumps(asdict(params)))
    off = json.loads(json.dumps(asdict(SamplingParams())))
    always = ("max_tokens", "temperature", "top_k", "top_p", "stop", "seed")
    return {name: value for name, value in given.items() if name in always or value != off[name]}


def _check_ids(questions: Sequence[Question]) -> None:
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise InputError(
                f"two questions have the id {question.id!r}",
                where="answer evaluation",
                fix="give each question its own id",
            )
        seen.add(question.id)


def _resume(
    path: Path, questions: Sequence[Question], params: SamplingParams, run: str
) -> dict[str, dict[str, Any]]:
    """The finished records of a run that was cut off, by id; the file is left with only them."""
    asked = {question.id: _asked(question, params, run) for question in questions}
    done: dict[str, dict[str, Any]] = {}
    if path.exists() and _drop_half_line(path):
        for record in read_jsonl(path, "id"):
            expected = asked.get(record["id"])
            if expected is None or any(record.get(key) != expected[key] for key in expected):
                raise InputError(
                    f"holds the answer to another question or run under the id {record['id']!r}",
                    where=str(path),
                    fix="delete the file to start anew, or name another one",
                )
            if record.get("error") is None:
                done[record["id"]] = record
    write_jsonl(path, done.values())
    return done


def _drop_half_line(path: Path) -> bool:
    """Cut off a last line that has no end; say whether any record is left."""
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) != len(raw):
        with atomic_write(path) as temporary:
            temporary.write_bytes(whole)
    return bool(whole.strip())
