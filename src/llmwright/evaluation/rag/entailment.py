"""An entailment model as the judge of RAG metrics: does the premise entail the statement?

    supported  where  max over windows of the premise of P(entailment | window, statement) >= 1/2

A long premise is cut into windows of whole sentences, since such models read 512 tokens and were
trained on shorter ones; the best window counts, as in SummaC (Laban, Schnabel, Bennett and Hearst,
2022, arXiv 2111.09525). ALCE (arXiv 2305.14627) judges citations with such a model.

A short answer ("in 1891") is no statement by itself, so it is read behind its question. Costs one
pass of the model for each window and statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llmwright.core import ConfigurationError
from llmwright.evaluation.groundedness import split_sentences
from llmwright.evaluation.rag.judging import LexicalJudge
from llmwright.evaluation.rag.refusals import refuses

Entailment = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""From pairs of premise and hypothesis to the probability that the one entails the other."""

_WINDOW = 200  # words
_SHORT = 4  # words


@dataclass(frozen=True)
class EntailmentJudge:
    """A ``Judge`` by ``entails``; from the probability ``least`` on, a statement is supported."""

    entails: Entailment
    least: float = 0.5
    name: str = "entailment"

    def __post_init__(self) -> None:
        if not 0 < self.least <= 1:
            raise ConfigurationError(
                f"least is {self.least}", where="entailment judge", fix="give more than 0, up to 1"
            )

    def statements(self, question: str, text: str) -> list[str] | None:
        """The sentences, short ones behind the question."""
        found = LexicalJudge().statements(question, text) or []
        return [f"{question} {s}" if len(s.split()) <= _SHORT else s for s in found]

    def supported(self, premise: str, statements: Sequence[str]) -> list[bool | None]:
        windows = list(_windows(premise))
        if not windows:
            return [False] * len(statements)
        pairs = [(window, statement) for statement in statements for window in windows]
        chances = list(self.entails(pairs)) if pairs else []
        best = [max(chances[at : at + len(windows)]) for at in range(0, len(chances), len(windows))]
        return [chance >= self.least for chance in best]

    def useful(self, question: str, gold: str, passage: str) -> bool | None:
        """Whether the passage entails every statement of the reference answer."""
        statements = self.statements(question, gold)
        return all(self.supported(passage, statements)) if statements else None

    def refuses(self, question: str, answer: str) -> bool | None:
        return refuses(answer)

    def questions(self, answer: str, count: int) -> list[str] | None:
        return None


def _windows(premise: str) -> Iterator[str]:
    window: list[str] = []
    size = 0
    for sentence in split_sentences(premise):
        words = len(sentence.split())
        if window and size + words > _WINDOW:
            yield " ".join(window)
            window, size = [], 0
        window.append(sentence)
        size += words
    if window:
        yield " ".join(window)
