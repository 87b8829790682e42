"""Qdrant through its own client: a server by its address, or the client's local mode in a folder.

An entry's id in Qdrant is ``key(id)``; its payload holds the id, the labels that filters look at
and the metadata. A write returns when it can be seen. The key of a server is read from
QDRANT_API_KEY. Local mode belongs to one process, searches exactly, and commits entry by entry:
a batch that is killed may be there in part (each entry whole). A server logs a batch first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

from llmwright.core import InputError
from llmwright.retrieval.stores.entry import (
    Entry,
    Found,
    best,
    check_entries,
    check_query,
    key,
    labels,
)

_AT_ONCE = 512  # entries in one request
_TIMEOUT = 30  # seconds


class QdrantStore:
    """A ``VectorStore`` in a collection of ``place``, a folder or an http(s) address. Raises
    ``InputError`` where the collection holds vectors of another dimension."""

    def __init__(self, place: str, dimension: int, collection: str = "llmwright") -> None:
        self.dimension, self._collection = dimension, collection
        if place.startswith(("http://", "https://")):
            key = os.environ.get("QDRANT_API_KEY")
            self._client = QdrantClient(url=place, api_key=key, timeout=_TIMEOUT)
        else:
            self._client = QdrantClient(path=place)
        if not self._client.collection_exists(collection):
            params = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
            self._client.create_collection(collection, vectors_config=params)
            if place.startswith("http"):  # local mode keeps no indexes of payloads
                self._client.create_payload_index(
                    collection, "labels", models.PayloadSchemaType.KEYWORD
                )
        vectors: Any = self._client.get_collection(collection).config.params.vectors
        if vectors.size != dimension:
            raise InputError(
                f"the collection {collection!r} holds vectors of dimension {vectors.size}, "
                f"not {dimension}",
                where=place,
                fix="embed with the model it was made for, or name another collection",
            )

    def upsert(self, entries: Sequence[Entry]) -> None:
        check_entries(entries, self.dimension)
        points = [
            models.PointStruct(
                id=key(entry.id),
                vector=entry.vector.tolist(),
                payload={
                    "id": entry.id,
                    "labels": labels(entry.metadata),
                    "metadata": dict(entry.metadata),
                },
            )
            for entry in entries
        ]
        for start in range(0, len(points), _AT_ONCE):
            self._client.upsert(self._collection, points[start : start + _AT_ONCE], wait=True)

    def delete(self, ids: Sequence[str]) -> None:
        if ids:
            points: list[Any] = [key(identity) for identity in ids]
            selector = models.PointIdsList(points=points)
            self._client.delete(self._collection, selector, wait=True)

    def search(
        self, vector: NDArray[np.float32], top: int = 10, filter: Mapping[str, str] | None = None
    ) -> list[Found]:
        check_query(vector, top, self.dimension)
        must: list[Any] = [
            models.FieldCondition(key="labels", match=models.MatchValue(value=one))
            for one in labels(filter)
        ]
        points = self._client.query_points(
            self._collection,
            query=vector.tolist(),
            query_filter=models.Filter(must=must) if must else None,
            limit=top,
        ).points
        payloads = [(point.payload or {}, point.score) for point in points]
        return best((Found(p["id"], score, p["metadata"]) for p, score in payloads), top, filter)

    def count(self) -> int:
        return self._client.count(self._collection, exact=True).count

    def close(self) -> None:
        self._client.close()
