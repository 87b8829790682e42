"""Pinecone through its own client: an index that exists, by its name.

Not proved: no Pinecone service has run under the contract tests yet; they run against one that
LLMWRIGHT_TEST_STORES names. A record's id is ``key(id)``; its metadata are the id, the labels that
filters look at and the metadata as JSON. The key is read from PINECONE_API_KEY. An index is not
made here, since that chooses a cloud and costs money; its metric must be the cosine. Pinecone
becomes consistent after a while: a search may not yet see the last writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pinecone import Pinecone

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

_AT_ONCE = 100  # records in one request: 2 MB is the most it takes


class PineconeStore:
    """A ``VectorStore`` in ``namespace`` of the index ``place``. Raises ``InputError`` where the
    index holds vectors of another dimension."""

    def __init__(self, place: str, dimension: int, namespace: str = "llmwright") -> None:
        self.dimension, self._namespace = dimension, namespace
        self._client = Pinecone()
        self._index: Any = self._client.Index(place)
        held = self._index.describe_index_stats().dimension
        if held != dimension:
            raise InputError(
                f"the index holds vectors of dimension {held}, not {dimension}",
                where=place,
                fix="embed with the model it was made for, or name another index",
            )

    def upsert(self, entries: Sequence[Entry]) -> None:
        check_entries(entries, self.dimension)
        records = [
            {
                "id": key(entry.id),
                "values": entry.vector.tolist(),
                "metadata": {
                    "entry": entry.id,
                    "labels": labels(entry.metadata),
                    "metadata": canonical_json(dict(entry.metadata)),
                },
            }
            for entry in entries
        ]
        for start in range(0, len(records), _AT_ONCE):
            part = records[start : start + _AT_ONCE]
            self._index.upsert(vectors=part, namespace=self._namespace)

    def delete(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _AT_ONCE):
            keys = [key(identity) for identity in ids[start : start + _AT_ONCE]]
            self._index.delete(ids=keys, namespace=self._namespace)

    def search(
        self, vector: NDArray[np.float32], top: int = 10, filter: Mapping[str, str] | None = None
    ) -> list[Found]:
        check_query(vector, top, self.dimension)
        wanted = [{"labels": {"$in": [one]}} for one in labels(filter)]
        response = self._index.query(
            vector=vector.tolist(),
            top_k=top,
            namespace=self._namespace,
            filter={"$and": wanted} if wanted else None,
            include_metadata=True,
        )
        rows = [(match.metadata, match.score) for match in response.matches]
        found = [Found(m["entry"], score, json.loads(m["metadata"])) for m, score in rows]
        return best(found, top, filter)

    def count(self) -> int:
        spaces = self._index.describe_index_stats().namespaces
        return int(spaces[self._namespace].vector_count) if self._namespace in spaces else 0

    def close(self) -> None:
        self._client.close()
