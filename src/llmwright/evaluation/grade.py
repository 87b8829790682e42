"""Score answers that are already written, by this project or by any other program.

A record is ``{"id", "answer", "gold"}``. ``gold`` (or ``reference``, or ``references``) is a text
or a list of texts of which the best counts; ``sources``, optional, is a list of texts or of
objects with a ``text``, which ``[1]``, ``[2]``, ... in the answer refer to. Every other field is
kept as it is. The figures are those of ``answers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmwright.core import InputError, kind_of, read_located_jsonl
from llmwright.evaluation.answers import FIGURES, score_answer, score_records
from llmwright.evaluation.report import Report

_GOLD = ("gold", "reference", "references")


def grade_answers(path: Path, *, seed: int = 0) -> Report:
    """Grade each record of a JSONL file. An answer of null (the model failed) is unscored.

    Raises ``InputError`` with the line of the first record that is broken or lacks something.
    """
    graded = []
    for where, record in read_located_jsonl(path):
        answer, gold = _answer(record, where), _gold(record, where)
        sources = _sources(record, where)
        figures: dict[str, float | None] = dict.fromkeys(FIGURES)
        if answer is not None:
            figures = score_answer(answer, gold, sources)
        graded.append({**record, **figures})
    return Report(score_records(graded, seed), graded)


def _answer(record: Mapping[str, Any], where: str) -> str | None:
    if "answer" not in record:
        raise InputError(
            "the field 'answer' is missing", where=where, fix="fields needed: answer, gold"
        )
    answer = record["answer"]
    if answer is not None and not isinstance(answer, str):
        raise InputError(
            f"the field 'answer' is {kind_of(answer)}",
            where=where,
            fix="it must be a text, or null where the model failed",
        )
    return answer


def _gold(record: Mapping[str, Any], where: str) -> str | list[str] | None:
    name = next((name for name in _GOLD if name in record), None)
    if name is None:
        if record.get("sources"):
            return None  # groundedness alone
        raise InputError(
            "there is neither a reference answer nor a source to grade against",
            where=where,
            fix=f"add one of {', '.join(_GOLD)}, or sources",
        )
    gold = record[name]
    if gold is None or isinstance(gold, str):
        return gold
    if isinstance(gold, list) and all(isinstance(g, str) for g in gold):
        return gold
    raise InputError(
        f"the field {name!r} is neither a text nor a list of texts",
        where=where,
        fix="give the reference answer, or a list of equally right ones",
    )


def _sources(record: Mapping[str, Any], where: str) -> list[str]:
    sources = record.get("sources") or []
    texts = [
        source.get("text") if isinstance(source, dict) else source
        for source in (sources if isinstance(sources, list) else [sources])
    ]
    if not all(isinstance(text, str) for text in texts):
        raise InputError(
            "the field 'sources' is not a list of passages",
            where=where,
            fix='give a list of texts, or of objects with a "text"',
        )
    return [text for text in texts if isinstance(text, str)]
