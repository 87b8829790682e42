"""Milvus through its own client: a server by its address, or Milvus Lite in a file.

An entry's primary key is ``key(id)``, since ids of deletes are put into Milvus's query language
without quoting; the id itself, labels and metadata are fields beside the vector. Reads are
strongly consistent: a search sees every write that returned. The token of a server is read from
MILVUS_TOKEN. Milvus Lite belongs to one process and searches exactly here (``FLAT``); a server
gets ``AUTOINDEX``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient

from llmwright.core import InputError, canonical_json
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
_TIMEOUT = 30.0  # seconds
_LABELS = 256  # of an entry, at most
_BYTES = 65_535  # of an id, at most; and of metadata as JSON


class MilvusStore:
    """A ``VectorStore`` in a collection of ``place``, a file ending in .db or an http(s) address.
    Raises ``InputError`` where the collection holds vectors of another dimension."""

    def __init__(self, place: str, dimension: int, collection: str = "llmwright") -> None:
        self.dimension, self._collection = dimension, collection
        self._client: Any = MilvusClient(place, token=os.environ.get("MILVUS_TOKEN", ""))
        if not self._client.has_collection(collection):
            self._create(server=place.startswith("http"))
        fields = self._client.describe_collection(collection)["fields"]
        held = next(int(f["params"]["dim"]) for f in fields if f["name"] == "vector")
        if held != dimension:
            raise InputError(
                f"the collection {collection!r} holds vectors of dimension {held}, not {dimension}",
                where=place,
                fix="embed with the model it was made for, or name another collection",
            )
        self._client.load_collection(collection)

    def _create(self, server: bool) -> None:
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=36)
        schema.add_field("id", DataType.VARCHAR, max_length=_BYTES)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dimension)
        schema.add_field("metadata", DataType.VARCHAR, max_length=_BYTES)
        schema.add_field(
            "labels",
            DataType.ARRAY,
            element_type=DataType.VARCHAR,
            max_capacity=_LABELS,
            max_length=32,
        )
        index = self._client.prepare_index_params()
        kind = "AUTOINDEX" if server else "FLAT"
        index.add_index("vector", index_type=kind, metric_type="COSINE")
        self._client.create_collection(
            self._collection, schema=schema, index_params=index, consistency_level="Strong"
        )

    def upsert(self, entries: Sequence[Entry]) -> None:
        check_entries(entries, self.dimension)
        rows = [
            {
                "key": key(entry.id),
                "id": entry.id,
                "vector": entry.vector.tolist(),
                "metadata": canonical_json(dict(entry.metadata)),
                "labels": labels(entry.metadata),
            }
            for entry in entries
        ]
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            self._client.upsert(self._collection, part, timeout=_TIMEOUT)

    def delete(self, ids: Sequence[str]) -> None:
        if ids:
            keys = [key(identity) for identity in ids]
            self._client.delete(self._collection, ids=keys, timeout=_TIMEOUT)

    def search(
        self, vector: NDArray[np.float32], top: int = 10, filter: Mapping[str, str] | None = None
    ) -> list[Found]:
        check_query(vector, top, self.dimension)
        wanted = labels(filter)
        (rows,) = self._client.search(
            self._collection,
            [vector.tolist()],
            limit=top,
            filter=f"array_contains_all(labels, {json.dumps(wanted)})" if wanted else "",
            output_fields=["id", "metadata"],
            timeout=_TIMEOUT,
        )
        entities = [(row["entity"], row["distance"]) for row in rows]
        found = [Found(e["id"], score, json.loads(e["metadata"])) for e, score in entities]
        return best(found, top, filter)

    def count(self) -> int:
        rows = self._client.query(self._collection, output_fields=["count(*)"], timeout=_TIMEOUT)
        return int(rows[0]["count(*)"])

    def close(self) -> None:
        self._client.close()
