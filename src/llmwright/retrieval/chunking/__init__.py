"""Cutting documents into chunks: one way a file, one settings object for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.retrieval.chunking.chunker import chunk_document, iter_chunks
    from llmwright.retrieval.chunking.contextual import ContextWriter
    from llmwright.retrieval.chunking.parents import lift, parent_of, parent_search
    from llmwright.retrieval.chunking.sentences import split_sentences
    from llmwright.retrieval.chunking.settings import (
        DEFAULT_OVERLAP,
        DEFAULT_SIZE,
        ChunkSettings,
        Strategy,
        check_sizes,
    )
    from llmwright.retrieval.chunking.spans import approximate_tokens

_HOMES = {
    "DEFAULT_OVERLAP": "settings",
    "DEFAULT_SIZE": "settings",
    "ChunkSettings": "settings",
    "ContextWriter": "contextual",
    "Strategy": "settings",
    "approximate_tokens": "spans",
    "check_sizes": "settings",
    "chunk_document": "chunker",
    "iter_chunks": "chunker",
    "lift": "parents",
    "parent_of": "parents",
    "parent_search": "parents",
    "split_sentences": "sentences",
}

__all__ = [
    "DEFAULT_OVERLAP",
    "DEFAULT_SIZE",
    "ChunkSettings",
    "ContextWriter",
    "Strategy",
    "approximate_tokens",
    "check_sizes",
    "chunk_document",
    "iter_chunks",
    "lift",
    "parent_of",
    "parent_search",
    "split_sentences",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
