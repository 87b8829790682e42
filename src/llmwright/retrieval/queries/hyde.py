"""HyDE: search with what an answer would look like, for answers lie nearer to answers.

A model writes N passages that might answer the question; true or not, they use the words and the
manner of the passage that is sought. In the paper's form, they and the question are embedded and
averaged:

    e'(q) = ( e(q) + sum over i of e(passage_i) ) / (N + 1),    brought to length 1

Gao, Ma, Lin and Callan, "Precise Zero-Shot Dense Retrieval without Relevance Labels", 2022, arXiv
2212.10496. ``HydeEmbedder`` is that: an embedder that an index is opened with, so that the dense
retriever asks with e' while the lexical one asks with the question. ``hypothetical_answers`` is a
``Rewrite`` for ``expanded``: the passages become queries of their own, for any search.

Costs N answers of ``max_tokens`` and N embeddings a question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmwright.core import ChatModel, Embedder, Message, SamplingParams, waited
from llmwright.retrieval.queries.expansion import Rewrite

_RULES = (
    "Write a short passage, as it might stand in a book or manual, that answers the user's "
    "question, in its language. Only the passage."
)


def hypothetical_answers(
    model: ChatModel, n: int = 1, *, max_tokens: int = 120, temperature: float = 0.7, seed: int = 0
) -> Rewrite:
    """Passages a model holds for possible: one greedily, or ``n`` drawn at ``temperature``."""

    def rewrite(question: str) -> Sequence[str]:
        if not question.strip():
            return []
        messages = [Message("system", _RULES), Message("user", question)]
        found = []
        for number in range(n):
            params = SamplingParams(
                max_tokens=max_tokens,
                temperature=temperature if n > 1 else 0.0,
                seed=seed + number,
            )
            text = waited(model.complete(messages, params)).text.strip()
            if any(map(str.isalnum, text)):
                found.append(text)
        return found

    return rewrite


class HydeEmbedder:
    """An ``Embedder`` whose queries are averaged with hypothetical answers; documents are not
    changed, so an index made with ``embedder`` opens with it."""

    def __init__(self, embedder: Embedder, answers: Rewrite) -> None:
        self._embedder = embedder
        self._answers = answers
        self.name = embedder.name
        self.dimension = embedder.dimension
        self.languages = embedder.languages
        self.fingerprint = str(getattr(embedder, "fingerprint", ""))

    def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "document"] = "document"
    ) -> NDArray[np.float32]:  # [texts, dimension]
        if kind == "document" or not texts:
            return self._embedder.embed(texts, kind=kind)
        asked = self._embedder.embed(texts, kind="query")
        answers = [list(self._answers(text)) for text in texts]
        written = [answer for found in answers for answer in found]
        passages = self._embedder.embed(written) if written else asked[:0]
        moved, begin = asked.astype(np.float64), 0
        for row, found in enumerate(answers):
            moved[row] += passages[begin : begin + len(found)].sum(axis=0)
            begin += len(found)
        length = np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
        return np.asarray(moved / length, np.float32)
