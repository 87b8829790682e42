"""Which part of the pipeline a wrong answer is owed to, and what mending it would bring.

A question is asked of four parts in a row; the first that loses its passage is to blame:

    retrieval    a gold passage is not among the candidates (the first 100 hits)
    ranking      all are, but not all among the ``top`` that the model could be given
    context      all were, but the prompt lost one (budget, duplicates, a cut), or the answer is
                 right once the gold passage stands first: lost in the order
    generation   the prompt held all, and the answer is wrong or unfaithful all the same; or a
                 question without an answer was answered

A question that was answered rightly and faithfully is nobody's fault, whatever was found; where no
answers are asked for, one whose passages all reach the prompt only counts as ``reached``. Where
ranks beyond the prompt are not known, retrieval and ranking cannot be told apart and are named
together. What a part would bring if it were perfect is counted by answering its questions anew
with the gold passages in first place (the oracle): the share of right answers if those were
taken for this part's questions, and all else stayed. A question that the oracle answers wrongly
too would have failed at generation next.

Counting after the fact, as error analysis does; no model of how parts interact. Costs one more
answer for each wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmwright.core import Score
from llmwright.statistics import mean_score

Part = Literal[
    "retrieval",
    "ranking",
    "retrieval or ranking",
    "context",
    "generation",
    "right",
    "reached",
    "unscored",
]
PARTS: tuple[Part, ...] = ("retrieval", "ranking", "retrieval or ranking", "context", "generation")
FAITHFUL = 0.5
"""An answer less faithful than this is wrong, even where it holds the reference."""

ADVICE = {
    "retrieval": "the passages are not found: other chunks, both retrievers, query expansion",
    "ranking": "they are found too far down: rerank, learn the fusion's weights, raise top",
    "retrieval or ranking": "the passages do not reach the prompt: measure with candidates",
    "context": "the prompt loses them: a larger budget, compression, another order",
    "generation": "the prompt holds them: a better model, prompt or adapter",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one question. ``found_at``: ranks of its gold passages among
    ``candidates`` hits, None for one not there; ``shown``: whether the prompt held all of them.
    ``right`` is None where the answer could not be judged; ``asked`` is False where none was
    asked for."""

    answerable: bool
    found_at: tuple[int | None, ...] | None
    candidates: int | None
    top: int
    shown: bool | None
    right: bool | None
    right_with_gold: bool | None = None
    asked: bool = True


def blame(facts: Facts) -> Part:
    """The part that a question's answer is owed to."""
    if facts.right:
        return "right"
    if not facts.answerable:
        return "generation" if facts.right is False else "unscored"
    if not facts.found_at:
        return "unscored"
    if None in facts.found_at and facts.candidates is not None and facts.candidates > facts.top:
        return "retrieval"
    if any(rank is None or rank > facts.top for rank in facts.found_at):
        deeper = facts.candidates is not None and facts.candidates > facts.top
        return "ranking" if deeper else "retrieval or ranking"
    if facts.shown is False:
        return "context"
    if facts.right is None:
        return "unscored" if facts.asked else "reached"
    return "context" if facts.right_with_gold else "generation"


def is_right(metrics: dict[str, float | None]) -> bool | None:
    """Whether an answer holds the reference and is not unfaithful, or rightly refuses."""
    correct, faithfulness = metrics["correct"], metrics["faithfulness"]
    if correct is None:
        return None
    return correct == 1.0 and (faithfulness is None or faithfulness >= FAITHFUL)


def count_parts(records: Sequence[dict[str, Any]], seed: int = 0) -> list[Score]:
    """The share of questions owed to each part, with its interval, over those that could be
    attributed; a part that nothing is owed to, and that could have been, is 0."""
    told = [r["part"] for r in records if r["part"] != "unscored"]
    missing = len(records) - len(told)
    unasked = {"context", "generation", "right"} if "reached" in told else {"reached"}
    names = [
        part
        for part in (*PARTS, "right", "reached")
        if part in told or part not in unasked | {"retrieval or ranking"}
    ]
    scores = []
    for name in names:
        values = [float(part == name) for part in told]
        scores.append(mean_score(name, [*values, *[None] * missing], seed))
    return scores


def perfect_parts(records: Sequence[dict[str, Any]], seed: int = 0) -> list[Score]:
    """The share of right answers as it is, and if each part alone were perfect. Unscored where
    a part's questions were not answered anew. Perfect generation answers whatever the prompt
    held."""
    scores = [mean_score("as it is", [_number(r["right"]) for r in records], seed)]
    for part in ("retrieval", "ranking", "context", "generation"):
        values = []
        for record in records:
            right = record["right"]
            if record["part"] == part:
                right = True if part == "generation" else record["right_with_gold"]
            values.append(_number(right))
        scores.append(mean_score(f"perfect {part}", values, seed))
    return scores


def bottleneck(parts: Sequence[Score]) -> str | None:
    """The part that most questions are owed to; None where none is."""
    owed = [s for s in parts if s.name in PARTS and s.value]
    return max(owed, key=lambda s: s.value or 0.0).name if owed else None


def _number(value: bool | None) -> float | None:
    return None if value is None else float(value)
