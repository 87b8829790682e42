"""Hits scored by a cross-encoder, which reads query and passage together (``embeddings``).

The passage is what the retrievers read as well: its heading, then its text. Scores are logits:
they tell apart what a sigmoid would round to 1. Costs one pass of the model a hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmwright.core import Hit
from llmwright.retrieval.rerank.reranking import Reranker

if TYPE_CHECKING:
    from llmwright.embeddings.cross_encoder import CrossEncoder


def cross_encoder_reranker(model: CrossEncoder) -> Reranker:
    """``CrossEncoder.load(source)`` as a reranker."""

    def scores(query: str, hits: Sequence[Hit]) -> list[float]:
        pairs = [(query, passage_of(hit)) for hit in hits]
        return [float(logit) for logit in model.predict(pairs, activation="identity")]

    return scores


def passage_of(hit: Hit) -> str:
    """Heading and text, as the model is shown them in training too."""
    return f"{hit.chunk.heading}\n{hit.chunk.text}".strip()
