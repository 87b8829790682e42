"""Weaviate through its own client, version 4: a server by its address.

Not proved: no Weaviate server has run under the contract tests yet; they run against one that
LLMWRIGHT_TEST_STORES names. An object's id is ``key(id)``; its properties are the id, the labels
that filters look at (kept whole, not cut into words) and the metadata as JSON. The key is read
from WEAVIATE_API_KEY. Searches go by gRPC, at port 50051 unless WEAVIATE_GRPC_PORT says another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import weaviate
from numpy.typing import NDArray
from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances
from weaviate.classes.data import DataObject
from weaviate.classes.init import Auth
from weaviate.classes.query import Filter, MetadataQuery

from llmwright.core import UpstreamError, canonical_json
from llmwright.retrieval.stores.entry import (
    Entry,
    Found,
    best,
    check_entries,
    check_query,
    key,
    labels,
)

_AT_ONCE = 200  # objects in one request


class WeaviateStore:
    """A ``VectorStore`` in a collection of the server at ``place``, an http(s) address. Raises
    ``UpstreamError`` where the server refuses objects."""

    def __init__(self, place: str, dimension: int, collection: str = "Llmwright") -> None:
        self.dimension = dimension
        address = urlsplit(place)
        secure = address.scheme == "https"
        api_key = os.environ.get("WEAVIATE_API_KEY")
        self._client: Any = weaviate.connect_to_custom(
            http_host=address.hostname or "",
            http_port=address.port or (443 if secure else 8080),
            http_secure=secure,
            grpc_host=address.hostname or "",
            grpc_port=int(os.environ.get("WEAVIATE_GRPC_PORT", "50051")),
            grpc_secure=secure,
            auth_credentials=Auth.api_key(api_key) if api_key else None,
        )
        if not self._client.collections.exists(collection):
            whole = Tokenization.FIELD
            self._client.collections.create(
                collection,
                vector_config=Configure.Vectors.self_provided(
                    vector_index_config=Configure.VectorIndex.hnsw(
                        distance_metric=VectorDistances.COSINE
                    )
                ),
                properties=[
                    Property(name="entry", data_type=DataType.TEXT, tokenization=whole),
                    Property(name="labels", data_type=DataType.TEXT_ARRAY, tokenization=whole),
                    Property(name="metadata", data_type=DataType.TEXT, index_searchable=False),
                ],
            )
        self._collection = self._client.collections.get(collection)

    def upsert(self, entries: Sequence[Entry]) -> None:
        check_entries(entries, self.dimension)
        objects = [
            DataObject(
                uuid=key(entry.id),
                vector=entry.vector.tolist(),
                properties={
                    "entry": entry.id,
                    "labels": labels(entry.metadata),
                    "metadata": canonical_json(dict(entry.metadata)),
                },
            )
            for entry in entries
        ]
        for start in range(0, len(objects), _AT_ONCE):
            done = self._collection.data.insert_many(objects[start : start + _AT_ONCE])
            if done.has_errors:
                first = next(iter(done.errors.values())).message
                raise UpstreamError(
                    f"Weaviate refused {len(done.errors)} objects ({first})",
                    where="upsert",
                    fix="mend what it names and upsert the entries again",
                )

    def delete(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _AT_ONCE):
            keys = [key(identity) for identity in ids[start : start + _AT_ONCE]]
            self._collection.data.delete_many(where=Filter.by_id().contains_any(keys))

    def search(
        self, vector: NDArray[np.float32], top: int = 10, filter: Mapping[str, str] | None = None
    ) -> list[Found]:
        check_query(vector, top, self.dimension)
        wanted = labels(filter)
        response = self._collection.query.near_vector(
            vector.tolist(),
            limit=top,
            filters=Filter.by_property("labels").contains_all(wanted) if wanted else None,
            return_metadata=MetadataQuery(distance=True),
        )
        rows = [(one.properties, 1.0 - one.metadata.distance) for one in response.objects]
        found = [Found(p["entry"], score, json.loads(p["metadata"])) for p, score in rows]
        return best(found, top, filter)

    def count(self) -> int:
        return int(self._collection.aggregate.over_all(total_count=True).total_count)

    def close(self) -> None:
        self._client.close()
