"""LanceDB on a local disk or an object store: every write is one new version of a table.

Readers see the version before a write or after it, from any process; a writer that dies leaves
the one before. Search is exact, or by an approximate index: HNSW graphs over vectors of one byte a
dimension inside k-means partitions (``hnsw``; Malkov and Yashunin 2016, arXiv 1603.09320), or
partitions alone (``ivf``). ``build`` makes or renews it; rows added since are searched one by one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import HnswSq, IvfFlat
from numpy.typing import NDArray

from llmwright.core import InputError, canonical_json
from llmwright.retrieval.stores.entry import (
    Entry,
    Found,
    best,
    check_entries,
    check_query,
    labels,
)

_TABLE = "entries"
_PROBES = 20  # partitions looked into
_REFINE = 4  # times as many candidates are looked up again with their full vectors


class LanceStore:
    """A ``VectorStore`` in ``folder`` (or a URI of LanceDB). Raises ``InputError`` where the
    folder holds vectors of another dimension."""

    def __init__(self, folder: str | Path, dimension: int) -> None:
        self.dimension = dimension
        self._schema = pa.schema(
            [
                ("id", pa.string()),
                ("vector", pa.list_(pa.float32(), dimension)),
                ("labels", pa.list_(pa.string())),
                ("metadata", pa.string()),
            ]
        )
        # An interval of zero: what another process wrote is seen by the next search.
        db = lancedb.connect(str(folder), read_consistency_interval=timedelta(0))
        try:
            self._table: Any = db.open_table(_TABLE)
        except ValueError:  # there is none yet
            self._table = db.create_table(_TABLE, schema=self._schema, exist_ok=True)
        held = self._table.schema.field("vector").type.list_size
        if held != dimension:
            raise InputError(
                f"holds vectors of dimension {held}, not {dimension}",
                where=str(folder),
                fix="embed with the model it was made for, or name a new folder",
            )

    def upsert(self, entries: Sequence[Entry]) -> None:
        check_entries(entries, self.dimension)
        if not entries:
            return
        rows = [
            {
                "id": entry.id,
                "vector": entry.vector,
                "labels": labels(entry.metadata),
                "metadata": canonical_json(dict(entry.metadata)),
            }
            for entry in entries
        ]
        merging = self._table.merge_insert("id").when_matched_update_all()
        merging.when_not_matched_insert_all().execute(pa.Table.from_pylist(rows, self._schema))

    def delete(self, ids: Sequence[str]) -> None:
        if ids:
            quoted = ", ".join("'" + identity.replace("'", "''") + "'" for identity in ids)
            self._table.delete(f"id IN ({quoted})")

    def search(
        self, vector: NDArray[np.float32], top: int = 10, filter: Mapping[str, str] | None = None
    ) -> list[Found]:
        check_query(vector, top, self.dimension)
        query = self._table.search(vector, vector_column_name="vector").distance_type("cosine")
        if filter:
            wanted = ", ".join(f"'{one}'" for one in labels(filter))
            query = query.where(f"array_has_all(labels, [{wanted}])", prefilter=True)
        query = query.nprobes(_PROBES).refine_factor(_REFINE).limit(top)
        rows = query.select(["id", "metadata", "_distance"]).to_arrow().to_pylist()
        found = [Found(r["id"], 1.0 - r["_distance"], json.loads(r["metadata"])) for r in rows]
        return best(found, top, filter)

    def build(self, kind: Literal["hnsw", "ivf"] = "hnsw") -> None:
        """Make search approximate, or bring its index up to date."""
        config = {"hnsw": HnswSq, "ivf": IvfFlat}[kind](distance_type="cosine")
        self._table.create_index("vector", config=config, replace=True)

    def count(self) -> int:
        return int(self._table.count_rows())

    def close(self) -> None:
        """Nothing to let go of: LanceDB holds no lock."""
