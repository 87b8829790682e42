"""Do the citations bear the answer out, and is each of them needed?

After ALCE (Gao, Yen, Yu and Chen, 2023, "Enabling Large Language Models to Generate Text with
Citations", arXiv 2305.14627), by sentence of the answer that says something:

    citation recall     = sentences whose cited passages, taken together, support them / sentences
    citation precision  = citations that are needed / citations

A citation is needed where its sentence is supported, and it supports the sentence alone or the
other citations of the sentence do not do so without it. A sentence without a citation, or with one
of a passage that does not exist, is not supported. An answer that cites nothing has no citation
precision (ALCE writes 0): it is the recall that says so.

The passages' own support for a sentence is the judge's to tell. Costs one verdict a sentence, and
for a sentence with c > 1 citations up to 2c more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmwright.evaluation.answer_metrics import strip_citations
from llmwright.evaluation.groundedness import claims, split_sentences
from llmwright.evaluation.rag.judging import Judge

_CITATION = re.compile(r"\[(\d{1,3}(?:, ?\d{1,3}){0,20})\]")


def citation_quality(
    answer: str, passages: Sequence[str], judge: Judge
) -> tuple[float | None, float | None]:
    """Recall and precision of the ``[n]`` in an answer. Recall is None for an answer that says
    nothing, both where the judge cannot tell of a sentence."""
    recalled: list[bool] = []
    needed: list[bool] = []
    for sentence in split_sentences(answer):
        cited = list(
            dict.fromkeys(
                int(number) for group in _CITATION.findall(sentence) for number in group.split(",")
            )
        )
        statement = strip_citations(sentence)
        if not any(claims(statement)):
            continue
        valid = [number for number in cited if 1 <= number <= len(passages)]
        whole = _joint(valid, passages, statement, judge)
        if whole is None:
            return None, None
        recalled.append(whole and len(valid) == len(cited))
        for number in cited:
            verdict = (
                number in valid and whole and _needed(number, valid, passages, statement, judge)
            )
            if verdict is None:
                return None, None
            needed.append(verdict)
    return (
        sum(recalled) / len(recalled) if recalled else None,
        sum(needed) / len(needed) if needed else None,
    )


def _joint(
    cited: Sequence[int], passages: Sequence[str], statement: str, judge: Judge
) -> bool | None:
    if not cited:
        return False
    premise = "\n".join(passages[number - 1] for number in cited)
    return judge.supported(premise, [statement])[0]


def _needed(
    number: int, cited: Sequence[int], passages: Sequence[str], statement: str, judge: Judge
) -> bool | None:
    """Of a sentence that its citations support together."""
    if len(cited) == 1:
        return True
    alone = _joint([number], passages, statement, judge)
    if alone is not False:
        return alone
    rest = _joint([n for n in cited if n != number], passages, statement, judge)
    return None if rest is None else not rest
