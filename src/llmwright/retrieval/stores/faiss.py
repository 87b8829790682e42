"""FAISS in a folder: exact (``flat``), a graph (``hnsw``) or k-means partitions (``ivf``).

FAISS is a library of indexes, not a store (Douze et al., "The Faiss library", 2024, arXiv
2401.08281): ids, metadata, deletes and safe writing are added here. A replaced or deleted entry
stays in the index as a dead row and is left out by a selector while searching, for an HNSW graph
cannot lose a node; where half of the rows are dead, the index is built anew. A filter that leaves
few rows is searched exactly among them, where a graph would lose its way.

    current.json    dimension, kind, and which folder below is committed
    NNNNNNNN/       index.faiss, entries.jsonl

Cost: everything lies in memory and every change writes the folder anew, so change in large
batches. HNSW holds 4 * dimension + 256 bytes an entry.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from llmwright.core import (
    InputError,
    atomic_folder,
    exclusive,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
)
from llmwright.retrieval.stores.entry import (
    Entry,
    Found,
    best,
    check_entries,
    check_query,
    labels,
)

Kind = Literal["flat", "hnsw", "ivf"]
_LINKS = 32  # of a node in the graph
_WIDTH = 128  # candidates the graph search keeps
_PARTITIONED_FROM = 1000  # entries; k-means on fewer says little
_EXACT_SHARE = 0.1  # of the rows: a filter that leaves fewer is searched row by row


class FaissStore:
    """A ``VectorStore`` in ``folder``, made if it is not there. Raises ``InputError`` for a folder
    of another dimension or kind, ``CapacityError`` where another process is writing."""

    def __init__(self, folder: str | Path, dimension: int, kind: Kind = "flat") -> None:
        self.dimension, self.kind = dimension, kind
        self._folder = Path(folder)
        self._rows: list[dict[str, Any]] = []
        self._index = _empty(kind, dimension, 0)
        self._version = 0
        if self._committed():
            self._read()
        self._take_up()

    def _read(self) -> None:
        current = read_json(self._folder / "current.json")
        held = (current["dimension"], current["kind"])
        if held != (self.dimension, self.kind):
            raise InputError(
                f"holds a {held[1]} index of dimension {held[0]}, not {self.kind} of "
                f"{self.dimension}",
                where=str(self._folder),
                fix="open it as what it is, or name a new folder",
            )
        self._version = current["version"]
        folder = self._folder / f"{self._version:08d}"
        self._index = faiss.read_index(str(folder / "index.faiss"))
        self._rows = list(read_jsonl(folder / "entries.jsonl"))

    def _take_up(self) -> None:
        """What is looked up by id and by label."""
        self._row_of = {row["id"]: n for n, row in enumerate(self._rows) if row["live"]}
        self._labelled: dict[str, list[int]] = {}
        for n in self._row_of.values():
            for one in labels(self._rows[n]["metadata"]):
                self._labelled.setdefault(one, []).append(n)

    def upsert(self, entries: Sequence[Entry]) -> None:
        check_entries(entries, self.dimension)
        if entries:
            self._change([entry.id for entry in entries], entries)

    def delete(self, ids: Sequence[str]) -> None:
        if ids:
            self._change(ids, [])

    def _change(self, dead: Sequence[str], entries: Sequence[Entry]) -> None:
        """On top of what is committed: rows of ``dead`` ids die, rows of ``entries`` are added."""
        with exclusive(
            self._folder / ".lock",
            busy="another process is changing this store",
            denied="searching works; to change it, copy it to a folder you may write to",
        ):
            if self._committed() != self._version:
                self._read()
                self._take_up()
            index, rows = self._changed(dead, entries)
            self._write(index, rows)
        self._index, self._rows = index, rows
        self._take_up()

    def _changed(
        self, dead: Sequence[str], entries: Sequence[Entry]
    ) -> tuple[Any, list[dict[str, Any]]]:
        rows = list(self._rows)
        for identity in dead:
            if (n := self._row_of.get(identity)) is not None:
                rows[n] = {**rows[n], "live": False}
        rows += [{"id": e.id, "metadata": dict(e.metadata), "live": True} for e in entries]
        vectors = np.array([e.vector for e in entries], np.float32).reshape(-1, self.dimension)
        live = [n for n, row in enumerate(rows) if row["live"]]
        grown = self.kind == "ivf" and len(live) > 2 * self._trained_on()
        if 2 * len(live) < len(rows) or (grown and len(live) >= _PARTITIONED_FROM):
            everything = np.concatenate([self._vectors(range(len(self._rows))), vectors])
            index = _empty(self.kind, self.dimension, len(live))
            rows, vectors = [rows[n] for n in live], everything[live]
            if not index.is_trained:
                index.train(vectors)
        else:
            index = faiss.clone_index(self._index)
        index.add(vectors)
        return index, rows

    def _trained_on(self) -> int:
        """Entries for which the partitions were made."""
        if isinstance(self._index, faiss.IndexIVFFlat):
            return (int(self._index.nlist) // 4) ** 2
        return _PARTITIONED_FROM // 2

    def _write(self, index: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        before, self._version = self._version, self._version + 1
        with atomic_folder(self._folder / f"{self._version:08d}") as temporary:
            faiss.write_index(index, str(temporary / "index.faiss"))
            write_jsonl(temporary / "entries.jsonl", rows)
        about = {"dimension": self.dimension, "kind": self.kind, "version": self._version}
        write_json(self._folder / "current.json", about)
        for folder in self._folder.glob("[0-9]*"):  # the one before stays for its readers
            if folder.name not in (f"{before:08d}", f"{self._version:08d}"):
                shutil.rmtree(folder, ignore_errors=True)

    def _committed(self) -> int:
        """The version on disk; 0 where nothing was written yet."""
        file = self._folder / "current.json"
        return int(read_json(file)["version"]) if file.is_file() else 0

    def _vectors(self, rows: Sequence[int]) -> NDArray[np.float32]:  # [rows, dimension]
        found = [self._index.reconstruct(int(n)) for n in rows]
        return np.array(found, np.float32).reshape(-1, self.dimension)

    def search(
        self, vector: NDArray[np.float32], top: int = 10, filter: Mapping[str, str] | None = None
    ) -> list[Found]:
        check_query(vector, top, self.dimension)
        allowed = set(self._row_of.values())
        for one in labels(filter):
            allowed &= set(self._labelled.get(one, ()))
        if not allowed:
            return []
        if len(allowed) <= max(top, _EXACT_SHARE * len(self._rows)):
            rows = sorted(allowed)
            scores = (self._vectors(rows) @ vector).tolist()
        else:
            scores, rows = self._nearest(vector, min(top, len(allowed)), allowed)
        pairs = zip(rows, scores, strict=True)
        found = (Found(self._rows[n]["id"], s, self._rows[n]["metadata"]) for n, s in pairs)
        return best(found, top, filter)

    def _nearest(
        self, vector: NDArray[np.float32], top: int, allowed: set[int]
    ) -> tuple[list[float], list[int]]:
        mask = np.zeros(len(self._rows), np.bool_)
        mask[list(allowed)] = True
        selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        parameters = faiss.SearchParameters(sel=selector)
        if self.kind == "hnsw":
            parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=max(_WIDTH, 2 * top))
        elif isinstance(self._index, faiss.IndexIVFFlat):
            probes = max(8, self._index.nlist // 8)
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=probes)
        scores, rows = self._index.search(vector[None], top, params=parameters)
        kept = rows[0] >= 0  # -1 stands where there were fewer
        return scores[0][kept].tolist(), rows[0][kept].tolist()

    def count(self) -> int:
        return len(self._row_of)

    def close(self) -> None:
        """Nothing to let go of."""


def _empty(kind: Kind, dimension: int, entries: int) -> Any:
    """An index for about so many entries. Partitions are not made for too few."""
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dimension, _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 200
        return index
    if kind == "ivf" and entries >= _PARTITIONED_FROM:
        index = faiss.index_factory(
            dimension, f"IVF{int(4 * entries**0.5)},Flat", faiss.METRIC_INNER_PRODUCT
        )
        index.make_direct_map()  # rows are looked up by number
        return index
    return faiss.IndexFlatIP(dimension)
