"""Hits put in a better order: by a cross-encoder, by their neighbours, by votes of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.retrieval.rerank.cross_encoder import cross_encoder_reranker
    from llmwright.retrieval.rerank.neighbours import neighbour_reranker
    from llmwright.retrieval.rerank.reranking import Reranker, interpolated, reranked

_HOMES = {
    "Reranker": "reranking",
    "cross_encoder_reranker": "cross_encoder",
    "interpolated": "reranking",
    "neighbour_reranker": "neighbours",
    "reranked": "reranking",
}

__all__ = [
    "Reranker",
    "cross_encoder_reranker",
    "interpolated",
    "neighbour_reranker",
    "reranked",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
