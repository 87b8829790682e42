"""Vectors in memory, searched exactly: the store of tests and of small sets, and the reference
that the others are held against.

Cost: 4 * dimension bytes an entry; one matrix product a search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from llmwright.retrieval.stores.entry import Entry, Found, best, check_entries, check_query


class MemoryStore:
    """A ``VectorStore`` that is gone with the process."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._entries: dict[str, Entry] = {}
        self._rows: tuple[list[Entry], NDArray[np.float32]] | None = None

    def upsert(self, entries: Sequence[Entry]) -> None:
        check_entries(entries, self.dimension)
        self._change({**self._entries, **{entry.id: entry for entry in entries}})

    def delete(self, ids: Sequence[str]) -> None:
        gone = set(ids)
        self._change({i: entry for i, entry in self._entries.items() if i not in gone})

    def search(
        self, vector: NDArray[np.float32], top: int = 10, filter: Mapping[str, str] | None = None
    ) -> list[Found]:
        check_query(vector, top, self.dimension)
        if self._rows is None:
            entries = list(self._entries.values())
            matrix = np.array([entry.vector for entry in entries], np.float32)
            self._rows = entries, matrix.reshape(-1, self.dimension)  # [entries, dimension]
        entries, matrix = self._rows
        scores = (matrix @ vector).tolist()
        pairs = zip(entries, scores, strict=True)
        return best((Found(e.id, score, e.metadata) for e, score in pairs), top, filter)

    def count(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        """Nothing to let go of."""

    def _change(self, entries: dict[str, Entry]) -> None:
        self._entries, self._rows = entries, None
