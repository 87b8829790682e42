"""Finding passages: chunking, BM25, dense, rank fusion, and the index folder that holds them.

Names are fetched when first used, so that chunking a text imports no database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.retrieval.analysis import analyze
    from llmwright.retrieval.chunking import (
        DEFAULT_OVERLAP,
        DEFAULT_SIZE,
        approximate_tokens,
        chunk_document,
    )
    from llmwright.retrieval.fusion import reciprocal_rank_fusion
    from llmwright.retrieval.index import Changes, Index
    from llmwright.retrieval.lexical import BM25
    from llmwright.retrieval.trec import search_documents, trec_lines

_HOMES = {
    "BM25": "lexical",
    "Changes": "index",
    "DEFAULT_OVERLAP": "chunking",
    "DEFAULT_SIZE": "chunking",
    "Index": "index",
    "analyze": "analysis",
    "approximate_tokens": "chunking",
    "chunk_document": "chunking",
    "reciprocal_rank_fusion": "fusion",
    "search_documents": "trec",
    "trec_lines": "trec",
}

__all__ = [
    "BM25",
    "DEFAULT_OVERLAP",
    "DEFAULT_SIZE",
    "Changes",
    "Index",
    "analyze",
    "approximate_tokens",
    "chunk_document",
    "reciprocal_rank_fusion",
    "search_documents",
    "trec_lines",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
