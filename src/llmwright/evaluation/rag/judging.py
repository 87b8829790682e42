"""Who says whether a passage supports a statement: the questions that RAG metrics ask, and the
judge that answers them from words alone.

Every metric of this room (`metrics`, `citations`, `refusals`) is a count over five kinds of
verdict, so one definition serves three judges: this one, a chat model (`model_judge`) and an
entailment model (`entailment`). A judge that cannot tell says None, and the metric is unscored.

``LexicalJudge`` holds a statement supported where more than half of its content words stand in the
premise, and of its numbers and names as well (the support of `groundedness`); a statement of up to
three such words needs them all. It is blind to
negation, to who did what to whom, and to paraphrase; it costs microseconds and gives the same
verdict each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llmwright.evaluation.answer_metrics import strip_citations
from llmwright.evaluation.groundedness import (
    SUPPORTED,
    borne_out,
    claims,
    split_sentences,
    words_of,
)
from llmwright.evaluation.rag.refusals import refuses

_SHORT = 3


class Judge(Protocol):
    """Gives the verdicts that RAG metrics count."""

    @property
    def name(self) -> str: ...

    def statements(self, question: str, text: str) -> list[str] | None:
        """What ``text``, an answer to ``question``, claims, one claim a statement."""
        ...

    def supported(self, premise: str, statements: Sequence[str]) -> list[bool | None]:
        """For each statement, whether ``premise`` bears it out."""
        ...

    def useful(self, question: str, gold: str, passage: str) -> bool | None:
        """Whether ``passage`` helps to arrive at the answer ``gold``."""
        ...

    def refuses(self, question: str, answer: str) -> bool | None:
        """Whether ``answer`` says that it cannot answer."""
        ...

    def questions(self, answer: str, count: int) -> list[str] | None:
        """Questions that ``answer`` would answer; None where the judge cannot write any."""
        ...


class LexicalJudge:
    """A ``Judge`` that compares words."""

    name = "lexical"

    def statements(self, question: str, text: str) -> list[str] | None:
        """The sentences that hold a content word, without their citations."""
        sentences = [strip_citations(sentence) for sentence in split_sentences(text)]
        return [sentence for sentence in sentences if any(claims(sentence))]

    def supported(self, premise: str, statements: Sequence[str]) -> list[bool | None]:
        """Whether a statement stands in the premise; None for one that holds no content word."""
        known = words_of(premise)
        verdicts: list[bool | None] = []
        for statement in statements:
            content, facts = claims(statement)
            size = len(content | facts)
            if not size:
                verdicts.append(None)
                continue
            found = borne_out(content, facts, known)
            verdicts.append(found == 1.0 if size <= _SHORT else found > SUPPORTED)
        return verdicts

    def useful(self, question: str, gold: str, passage: str) -> bool | None:
        """Whether the passage bears out the whole reference answer."""
        verdicts = self.supported(passage, self.statements(question, gold) or [])
        told = [verdict for verdict in verdicts if verdict is not None]
        return all(told) if told else None

    def refuses(self, question: str, answer: str) -> bool | None:
        return refuses(answer)

    def questions(self, answer: str, count: int) -> list[str] | None:
        return None
