"""Where vectors are kept: one small protocol, and the stores that keep it.

The index folder of ``retrieval.index`` keeps its own vectors; these stores are for those who have
a vector database already, or outgrow one machine. ``open_store`` names any of them by a source.
Each is imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.retrieval.stores.entry import Entry, Found, VectorStore
    from llmwright.retrieval.stores.faiss import FaissStore
    from llmwright.retrieval.stores.hybrid import fill_store, store_search
    from llmwright.retrieval.stores.lance import LanceStore
    from llmwright.retrieval.stores.memory import MemoryStore
    from llmwright.retrieval.stores.milvus import MilvusStore
    from llmwright.retrieval.stores.open import open_store
    from llmwright.retrieval.stores.pinecone import PineconeStore
    from llmwright.retrieval.stores.qdrant import QdrantStore
    from llmwright.retrieval.stores.weaviate import WeaviateStore

_HOMES = {
    "Entry": "entry",
    "FaissStore": "faiss",
    "Found": "entry",
    "LanceStore": "lance",
    "MemoryStore": "memory",
    "MilvusStore": "milvus",
    "PineconeStore": "pinecone",
    "QdrantStore": "qdrant",
    "VectorStore": "entry",
    "WeaviateStore": "weaviate",
    "fill_store": "hybrid",
    "open_store": "open",
    "store_search": "hybrid",
}

__all__ = [
    "Entry",
    "FaissStore",
    "Found",
    "LanceStore",
    "MemoryStore",
    "MilvusStore",
    "PineconeStore",
    "QdrantStore",
    "VectorStore",
    "WeaviateStore",
    "fill_store",
    "open_store",
    "store_search",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
