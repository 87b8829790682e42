"""Whether what was found may hold the answer at all: rules by which a model is not asked.

A model that is given passages about something else tends to answer from them anyway. A rule is
``rule(question, hits) -> bool``; ``CitedAnswerer(answerable=rule)`` says "not in the documents"
where it is False. Here are the two that need no model:

* ``score_rule``: the best score reaches a threshold. Scores of BM25 and of cosines mean something
  else for every index, and fused ones say only who stood first; a reranker's calibrated
  probability (``retrieval.rerank``) is the score to use.
* ``coverage_rule``: one passage holds enough of the question's words, each weighted by
  how rare it is among them (`support`). Words in no passage weigh most.

Thresholds are to be learned on questions of your own, answerable and not. Costs microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmwright.answering.support import Support
from llmwright.core import ConfigurationError, Hit

Rule = Callable[[str, Sequence[Hit]], bool]


def score_rule(least: float) -> Rule:
    """The best hit's score is at least ``least``."""
    return lambda question, hits: any(hit.score >= least for hit in hits)


def coverage_rule(least: float) -> Rule:
    """One passage holds at least this share of the question's weighted words. Raises
    ``ConfigurationError`` for a share outside [0, 1]."""
    if not 0 <= least <= 1:
        raise ConfigurationError(
            f"the share is {least}", where="coverage rule", fix="give a number from 0 to 1"
        )
    return lambda question, hits: coverage(question, hits) >= least


def coverage(question: str, hits: Sequence[Hit]) -> float:
    """The share of the question's weighted words in the passage that holds most of them, 0 to 1."""
    return max(Support(hits).shares(question, strict_numbers=False), default=0.0)
