"""The figures of retrieval-augmented answers, each a count over verdicts of a judge (`judging`).

Of retrieval, with v_k = 1 where the k-th passage is relevant:

    context precision      = sum_k (precision@k v_k) / sum_k v_k       (0 where none is relevant)
    context recall         = supported statements of the reference / all of them
    context entity recall  = names and numbers of the reference in the passages / all of them

Of generation:

    faithfulness           = statements of the answer that the passages support / all of them
    answer relevancy       = mean cosine of the question and n questions that the answer would
                             answer, 0 for an answer that says it cannot answer
    noise sensitivity      = wrong statements that a relevant passage supports / all statements;
                             the same for wrong ones that only an irrelevant passage supports
    answer correctness     = w F1 + (1 - w) similarity,   F1 = TP / (TP + (FP + FN) / 2)

TP are statements of the answer that the reference supports, FP the others, FN statements of the
reference that the answer does not support; a statement is wrong where the reference does not
support it. After RAGAS (Es, James, Espinosa-Anke and Schockaert, 2023, arXiv 2309.15217, and its
documentation); noise sensitivity from RAGChecker (Ru et al. 2024, arXiv 2408.08067).

A verdict of None is left out of a share; where none is left the figure is None. Cost: none beside
the verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmwright.evaluation.groundedness import claims, split_sentences, words_of

Verdict = bool | None
CORRECTNESS_WEIGHT = 0.75
"""Of the F1 of statements in answer correctness, as RAGAS has it."""


def share(verdicts: Sequence[Verdict]) -> float | None:
    """The share of True among the verdicts that were given."""
    told = [verdict for verdict in verdicts if verdict is not None]
    return sum(told) / len(told) if told else None


def context_precision(relevant: Sequence[Verdict]) -> float | None:
    """By rank, whether each passage is relevant. None where any could not be judged, or there is
    no passage: a place of unknown relevance moves every figure below it."""
    if not relevant or None in relevant:
        return None
    found = [rank for rank, yes in enumerate(relevant, start=1) if yes]
    if not found:
        return 0.0
    return math.fsum(count / rank for count, rank in enumerate(found, start=1)) / len(found)


def context_entity_recall(gold: str, passages: Sequence[str]) -> float | None:
    """Names (by their capitals) and numbers of the reference; None where it has none."""
    wanted = set().union(*(claims(sentence)[1] for sentence in split_sentences(gold)))
    known = set().union(*map(words_of, passages))
    return len(wanted & known) / len(wanted) if wanted else None


def noise_sensitivity(
    wrong: Sequence[Verdict],
    by_passage: Sequence[Sequence[Verdict]],
    relevant: Sequence[Verdict],
) -> tuple[float | None, float | None]:
    """How often wrong statements come from relevant passages, and from irrelevant ones alone.

    ``wrong`` by statement of the answer; ``by_passage`` [passages, statements]: whether the passage
    supports it; ``relevant`` by passage.
    """
    if not wrong or None in wrong or not by_passage or None in relevant:
        return None, None
    if any(None in verdicts for verdicts in by_passage):
        return None, None
    borne = {
        kind: [
            any(
                verdicts[i]
                for verdicts, yes in zip(by_passage, relevant, strict=True)
                if yes is kind
            )
            for i in range(len(wrong))
        ]
        for kind in (True, False)
    }
    from_relevant = [bool(no) and yes for no, yes in zip(wrong, borne[True], strict=True)]
    from_noise = [
        bool(no) and noise and not yes
        for no, noise, yes in zip(wrong, borne[False], borne[True], strict=True)
    ]
    return sum(from_relevant) / len(wrong), sum(from_noise) / len(wrong)


def statement_f1(answer: Sequence[Verdict], gold: Sequence[Verdict]) -> float | None:
    """``answer``: by statement of the answer, whether the reference supports it; ``gold``: by
    statement of the reference, whether the answer does."""
    told = [verdict for verdict in answer if verdict is not None]
    wanted = [verdict for verdict in gold if verdict is not None]
    if not wanted or (answer and not told):
        return None
    right = sum(told)
    missed = len(wanted) - sum(wanted)
    return right / (right + (len(told) - right + missed) / 2) if right else 0.0


def answer_correctness(
    f1: float | None, similarity: float | None, weight: float = CORRECTNESS_WEIGHT
) -> float | None:
    """None where either part is: half of a figure is another figure."""
    if f1 is None or similarity is None:
        return None
    return weight * f1 + (1 - weight) * similarity
