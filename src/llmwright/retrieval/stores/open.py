"""Any vector store by a source string.

    memory:                     gone with the process
    lance:FOLDER                LanceDB, also s3://… and other URIs of its own
    faiss:FOLDER                FAISS; faiss-hnsw:FOLDER and faiss-ivf:FOLDER approximate
    qdrant:FOLDER or URL        Qdrant's local mode, or a server
    milvus:FILE.db or URL       Milvus Lite, or a server
    weaviate:URL                a server
    pinecone:INDEX              the service

Behind ``#`` stands the collection (Pinecone: the namespace), ``llmwright`` where none is named.
"""

from __future__ import annotations

from importlib import import_module

from llmwright.core import ConfigurationError, MissingDependencyError
from llmwright.retrieval.stores.entry import VectorStore

_KINDS = {
    "memory": ("memory", "MemoryStore"),
    "lance": ("lance", "LanceStore"),
    "faiss": ("faiss", "FaissStore"),
    "faiss-hnsw": ("faiss", "FaissStore"),
    "faiss-ivf": ("faiss", "FaissStore"),
    "qdrant": ("qdrant", "QdrantStore"),
    "milvus": ("milvus", "MilvusStore"),
    "weaviate": ("weaviate", "WeaviateStore"),
    "pinecone": ("pinecone", "PineconeStore"),
}

_CLIENTS = {
    "lance": "lancedb pyarrow",
    "faiss": "faiss-cpu",
    "qdrant": "qdrant-client",
    "milvus": "'pymilvus[milvus_lite]'",
    "weaviate": "weaviate-client",
    "pinecone": "pinecone",
}


def open_store(source: str, dimension: int) -> VectorStore:
    """The store that ``source`` names, made where it is not there, for vectors of ``dimension``.

    Raises ``ConfigurationError`` for a source of another form, ``MissingDependencyError`` where
    the store's client is not installed, and what the store itself raises.
    """
    kind, colon, rest = source.partition(":")
    place, _, collection = rest.partition("#")
    if kind not in _KINDS or not colon or bool(place) == (kind == "memory"):
        raise ConfigurationError(
            f"{source!r} names no vector store",
            where="store",
            fix=f"write KIND:PLACE with a kind of {', '.join(_KINDS)}",
        )
    module, name = _KINDS[kind]
    try:
        store = getattr(import_module(f"llmwright.retrieval.stores.{module}"), name)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the store {kind} needs {error.name}", fix=f"pip install {_CLIENTS[module]}"
        ) from error
    made: VectorStore
    if kind == "memory":
        made = store(dimension)
    elif module == "faiss":
        made = store(place, dimension, kind.partition("-")[2] or "flat")
    elif collection:
        made = store(place, dimension, collection)
    else:
        made = store(place, dimension)
    return made
