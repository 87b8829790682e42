"""Other queries for a question, written by a chat model: each function gives a ``Rewrite``.

* ``paraphrases``: the same question in other words. "RAG-Fusion": Rackauckas (2024), arXiv
  2402.03367.
* ``sub_questions``: what must be known first. Press et al. (2022), "Measuring and Narrowing the
  Compositionality Gap in Language Models", arXiv 2210.03350; Khot et al. (2022), arXiv 2210.02406.
* ``step_back``: the more general question behind it. Zheng et al. (2023), "Take a Step Back",
  arXiv 2310.06117.

The model is asked for one query a line; numbers, bullets and quotation marks are taken off, and
lines that cannot be a query (longer than ``LONGEST`` words, or without a letter or digit) are
dropped. What it says is only ever searched for, never obeyed. One call a question; ``Counted``
(``counting``) says how many calls and tokens that came to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmwright.core import ChatModel, Message, SamplingParams, waited
from llmwright.retrieval.queries.expansion import Rewrite

LONGEST = 60

_MARK = re.compile(r"^\s*(?:[-*•–]+|(?:\(?\d{1,2}[.):]|[A-Za-z][.)]|Q\d*:)\s)\s*")
_QUOTES = "\"'`«»“”*_ \t"

_PARAPHRASE = (
    "You rewrite search queries. Write {n} other ways to ask the user's question, in its language, "
    "with other words but the same meaning. Keep names and numbers. One a line, nothing else."
)
_DECOMPOSE = (
    "You prepare searches. Write at most {n} simple questions, in the language of the user's "
    "question, that must be answered first in order to answer it. Each must be understood alone: "
    "repeat names. One a line, nothing else."
)
_STEP_BACK = (
    "You prepare searches. Write one more general question, in the language of the user's "
    "question, whose answer gives the background needed for it. Nothing else."
)


def paraphrases(model: ChatModel, n: int = 3, *, max_tokens: int = 160) -> Rewrite:
    """Asks for ``n`` paraphrases of the question."""
    return _written(model, _PARAPHRASE.format(n=n), n, max_tokens)


def sub_questions(model: ChatModel, n: int = 4, *, max_tokens: int = 200) -> Rewrite:
    """Asks for up to ``n`` questions that the question consists of."""
    return _written(model, _DECOMPOSE.format(n=n), n, max_tokens)


def step_back(model: ChatModel, *, max_tokens: int = 60) -> Rewrite:
    """Asks for the more general question."""
    return _written(model, _STEP_BACK, 1, max_tokens)


def _written(model: ChatModel, rules: str, n: int, max_tokens: int) -> Rewrite:
    def rewrite(question: str) -> Sequence[str]:
        if not question.strip():
            return []
        messages = [Message("system", rules), Message("user", question)]
        params = SamplingParams(max_tokens=max_tokens)
        return queries_of(waited(model.complete(messages, params)).text, n)

    return rewrite


def queries_of(answer: str, n: int) -> list[str]:
    """The first ``n`` lines of an answer that can be queries."""
    lines = (_MARK.sub("", line).strip(_QUOTES) for line in answer.splitlines())
    usable = (line for line in lines if any(map(str.isalnum, line)))
    return [line for line in usable if len(line.split()) <= LONGEST][:n]
