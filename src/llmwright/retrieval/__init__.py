"""Finding passages: chunking, BM25, dense, rank fusion, and the index folder that holds them.

Names are fetched when first used, so that chunking a text imports no database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.retrieval.assembly import BY_MODEL, Expand, SearchSettings, make_search
    from llmwright.retrieval.chunking.chunker import chunk_document
    from llmwright.retrieval.chunking.parents import parent_search
    from llmwright.retrieval.chunking.settings import (
        DEFAULT_OVERLAP,
        DEFAULT_SIZE,
        ChunkSettings,
        Strategy,
    )
    from llmwright.retrieval.chunking.spans import approximate_tokens
    from llmwright.retrieval.index.index import Changes, Index
    from llmwright.retrieval.index.trec import search_documents, trec_lines
    from llmwright.retrieval.lexical.analysis import analyze
    from llmwright.retrieval.lexical.bm25 import BM25
    from llmwright.retrieval.ranking.fusion import FUSION_K, Fusion, reciprocal_rank_fusion
    from llmwright.retrieval.ranking.learning import judge_fusions
    from llmwright.retrieval.rerank.cross_encoder import cross_encoder_reranker
    from llmwright.retrieval.rerank.reranking import Reranker

_HOMES = {
    "BM25": "lexical.bm25",
    "BY_MODEL": "assembly",
    "Changes": "index.index",
    "ChunkSettings": "chunking.settings",
    "DEFAULT_OVERLAP": "chunking.settings",
    "DEFAULT_SIZE": "chunking.settings",
    "Expand": "assembly",
    "FUSION_K": "ranking.fusion",
    "Fusion": "ranking.fusion",
    "Index": "index.index",
    "Reranker": "rerank.reranking",
    "SearchSettings": "assembly",
    "Strategy": "chunking.settings",
    "analyze": "lexical.analysis",
    "approximate_tokens": "chunking.spans",
    "chunk_document": "chunking.chunker",
    "cross_encoder_reranker": "rerank.cross_encoder",
    "judge_fusions": "ranking.learning",
    "make_search": "assembly",
    "parent_search": "chunking.parents",
    "reciprocal_rank_fusion": "ranking.fusion",
    "search_documents": "index.trec",
    "trec_lines": "index.trec",
}

__all__ = [
    "BM25",
    "BY_MODEL",
    "DEFAULT_OVERLAP",
    "DEFAULT_SIZE",
    "FUSION_K",
    "Changes",
    "ChunkSettings",
    "Expand",
    "Fusion",
    "Index",
    "Reranker",
    "SearchSettings",
    "Strategy",
    "analyze",
    "approximate_tokens",
    "chunk_document",
    "cross_encoder_reranker",
    "judge_fusions",
    "make_search",
    "parent_search",
    "reciprocal_rank_fusion",
    "search_documents",
    "trec_lines",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
