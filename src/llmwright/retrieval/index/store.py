"""The index folder: two Lance tables, one BM25 folder, and the file that names what is current.

    index.json        format, settings, embedder, the committed versions and counts
    lance/            tables ``documents`` and ``chunks`` (LanceDB; every write is a new version)
    bm25/NAME/        BM25 matrix and the order of its rows, for one version of ``chunks``
    .lock             held by the one process that writes

A commit writes new table versions and a new BM25 folder, then renames a new index.json over the
old one. Readers take the versions index.json names: they see the old state or the new one, and
go on seeing it however long they stay open. A writer that is killed leaves versions nobody
names; the next writer begins again from the named ones. Rows are in the order of chunk ids in
everything above this file, whatever their order on disk.

Cost: a commit rewrites the BM25 matrix (all postings) and index.json, and appends the rest.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import lancedb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llmwright.core import InputError, atomic_folder, exclusive, read_json, write_json
from llmwright.retrieval.dense.cosine import build_ann_index
from llmwright.retrieval.lexical.bm25 import BM25

FORMAT = 2
_KIND = "llmwright index"
_IDS_AT_A_TIME = 1000


@dataclass(frozen=True, slots=True)
class State:
    """What index.json says. ``languages`` counts chunks by language; ``embedder`` holds source,
    name, dimension, languages and fingerprint."""

    chunk_size: int
    chunk_overlap: int
    k1: float
    b: float
    ann_from: int
    embedder: dict[str, Any]
    documents_version: int = 0
    chunks_version: int = 0
    bm25: str = ""
    documents: int = 0
    chunks: int = 0
    languages: dict[str, int] | None = None
    ann: bool = False


DOCUMENTS = pa.schema(
    [(n, pa.string()) for n in ("id", "hash", "title", "source", "language", "text")]
    + [(n, pa.string()) for n in ("sections", "metadata")]  # JSON
)


def chunk_schema(dimension: int) -> pa.Schema:
    """Columns of the table ``chunks``; ``terms`` holds the hashes that BM25 counts, and
    ``votes`` says whether ``vector`` is one (it is zeros in a language the embedder does not
    know)."""
    return pa.schema(
        [(n, pa.string()) for n in ("id", "document_id", "text", "heading", "language")]
        + [("metadata", pa.string()), ("start", pa.int64()), ("end", pa.int64())]
        + [("votes", pa.bool_()), ("vector", pa.list_(pa.float32(), dimension))]
        + [("terms", pa.list_(pa.int64()))]
    )


def read_state(path: Path) -> State:
    """Read index.json. Raises ``InputError`` where the folder is no index we can read."""
    file = path / "index.json"
    if not file.is_file():
        raise InputError(
            "is not an index (it has no index.json)",
            where=str(path),
            fix="name the folder that `llmwright index --out` wrote",
        )
    record = read_json(file)
    if not isinstance(record, dict) or record.get("kind") != _KIND:
        raise InputError(
            "is not the index.json of an index",
            where=str(file),
            fix="name the folder that `llmwright index --out` wrote",
        )
    if record.get("format") != FORMAT:
        raise InputError(
            f"format {record.get('format')!r} is not known, only {FORMAT}",
            where=str(file),
            fix="index the documents again, or use the version of llmwright that wrote it",
        )
    try:
        return State(**{k: v for k, v in record.items() if k not in ("kind", "format")})
    except TypeError as error:
        raise InputError(
            f"is damaged ({error})", where=str(file), fix="index the documents again"
        ) from error


class Snapshot:
    """One committed state, open for reading. Rows are in the order of chunk ids."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state, self.bm25, self._rows = _open_consistently(path)
        # Lance works on the folder by its own threads; a table handle is pinned to a version.
        self._db = lancedb.connect(path / "lance")
        self.chunks = self._table("chunks", self.state.chunks_version)
        self.documents = self._table("documents", self.state.documents_version)

    def _table(self, name: str, version: int) -> Any:
        try:
            table = self._db.open_table(name)
            table.checkout(version)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"the table {name!r} has no version {version} that can be read",
                where=str(self.path),
                fix="copy the whole folder again, or index the documents again",
            ) from error
        return table

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Rows by the ids of their chunks."""
        return {identity: row for row, identity in enumerate(self._rows["id"].to_pylist())}

    @cached_property
    def votes(self) -> NDArray[np.bool_]:
        return cast("NDArray[np.bool_]", self._rows["votes"].to_numpy())

    def records(self, rows: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Columns of some rows, in the order asked for."""
        offsets = self._rows["offset"].take(pa.array(rows, pa.int64())).to_pylist()
        found = (
            self.chunks.take_offsets(sorted(set(offsets)))
            .select(list({"id": None, **dict.fromkeys(columns)}))
            .to_arrow()
        )
        by_id = {record["id"]: record for record in found.to_pylist()}
        ids = self._rows["id"].take(pa.array(rows, pa.int64())).to_pylist()
        return [by_id[identity] for identity in ids]

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Columns of all rows."""
        whole = read_columns(self.chunks, columns)
        return whole.take(self._rows["offset"].combine_chunks())


def read_columns(table: Any, columns: Sequence[str]) -> pa.Table:
    """Columns of every row of a Lance table, in the table's own order."""
    return table.search().select(list(columns)).to_arrow()


def document_hashes(table: Any) -> dict[str, str]:
    """Content hash by document id, from the table ``documents``."""
    found = read_columns(table, ["id", "hash"])
    return dict(zip(found["id"].to_pylist(), found["hash"].to_pylist(), strict=True))


def _open_consistently(path: Path) -> tuple[State, BM25, pa.Table]:
    """Read index.json and map the BM25 folder it names, again if a writer just replaced it."""
    while True:
        state = read_state(path)
        if not state.chunks:
            nothing = np.zeros(0, np.int64)
            return state, BM25.build(nothing, nothing), _rows_table([], [], [])
        folder = path / "bm25" / state.bm25
        try:
            with pa.memory_map(str(folder / "rows.arrow")) as file:
                rows = pa.ipc.open_file(file).read_all()
            return state, BM25.load(folder), rows
        except (OSError, ValueError) as error:
            if read_state(path).bm25 != state.bm25:
                continue
            raise InputError(
                f"cannot be read ({error})",
                where=str(folder),
                fix="copy the whole folder again, or index the documents again",
            ) from error


def _rows_table(ids: Sequence[str], votes: Sequence[bool], offsets: Sequence[int]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "votes": pa.array(votes, pa.bool_()),
            "offset": pa.array(offsets, pa.int64()),
        }
    )


def create_store(path: Path, state: State) -> None:
    """Make an empty index folder. Raises ``InputError`` where something stands at ``path``."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(
            "holds files already" if path.is_dir() else "is a file",
            where=str(path),
            fix="open it if it is an index, or name a new folder",
        )
    with atomic_folder(path) as temporary:
        db = lancedb.connect(temporary / "lance")
        documents = db.create_table("documents", schema=DOCUMENTS)
        chunks = db.create_table("chunks", schema=chunk_schema(state.embedder["dimension"]))
        state = replace(state, documents_version=documents.version, chunks_version=chunks.version)
        _write_state(temporary, state)


def _write_state(path: Path, state: State) -> None:
    write_json(path / "index.json", {"kind": _KIND, "format": FORMAT, **asdict(state)})


def writer_lock(path: Path) -> AbstractContextManager[None]:
    """Hold the folder for writing. Raises ``CapacityError`` where another process holds it and
    ``InputError`` where it may not be written."""
    return exclusive(
        path / ".lock",
        busy="another process is changing this index",
        denied="searching works; to change it, copy it to a folder you may write to",
    )


class Transaction:
    """Changes to the two tables, on top of the committed versions, until ``commit``."""

    def __init__(self, path: Path) -> None:
        self.path, self.state = path, read_state(path)
        db = lancedb.connect(path / "lance")
        self._documents = _at(db.open_table("documents"), self.state.documents_version)
        self._chunks = _at(db.open_table("chunks"), self.state.chunks_version)
        self.hashes = document_hashes(self._documents)

    def delete(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _IDS_AT_A_TIME):
            quoted = ", ".join(_quote(i) for i in ids[start : start + _IDS_AT_A_TIME])
            self._documents.delete(f"id IN ({quoted})")
            self._chunks.delete(f"document_id IN ({quoted})")

    def add(self, documents: list[dict[str, Any]], chunks: pa.Table) -> None:
        self._documents.add(pa.Table.from_pylist(documents, DOCUMENTS))
        if chunks.num_rows:
            self._chunks.add(chunks)

    def commit(self) -> None:
        """Write the BM25 folder for what the tables now hold, then make it all current."""
        votes = self._chunks.count_rows("votes")
        ann = votes >= self.state.ann_from
        if ann:
            build_ann_index(self._chunks)
        found = read_columns(self._chunks, ["id", "language", "votes", "terms"])
        ids = found["id"].to_pylist()
        order = sorted(range(len(ids)), key=ids.__getitem__)
        found = found.take(pa.array(order, pa.int64()))
        languages, name = Counter(found["language"].to_pylist()), ""
        if ids:
            name = f"{self._chunks.version:08d}"
            terms = found["terms"].combine_chunks()
            lengths = terms.value_lengths().to_numpy().astype(np.int64)
            bm25 = BM25.build(terms.flatten().to_numpy(), lengths, self.state.k1, self.state.b)
            rows = _rows_table(found["id"].to_pylist(), found["votes"].to_pylist(), order)
            with atomic_folder(self.path / "bm25" / name) as temporary:
                bm25.save(temporary)
                with pa.ipc.new_file(temporary / "rows.arrow", rows.schema) as file:
                    file.write_table(rows)
        before = self.state.bm25
        self.state = replace(
            self.state,
            documents_version=self._documents.version,
            chunks_version=self._chunks.version,
            bm25=name,
            documents=self._documents.count_rows(),
            chunks=len(ids),
            languages=dict(sorted(languages.items())),
            ann=ann,
        )
        _write_state(self.path, self.state)
        # The folder before stays for readers that have just read the old index.json; older
        # ones go. A reader that has mapped its files keeps them even so.
        for folder in (self.path / "bm25").glob("*"):
            if folder.name not in (name, before):
                shutil.rmtree(folder, ignore_errors=True)


def _at(table: Any, version: int) -> Any:
    """The table as committed, whatever a killed writer put on top."""
    if table.version != version:
        table.checkout(version)
        table.restore()
    return table


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
