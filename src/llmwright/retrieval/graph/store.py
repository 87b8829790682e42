"""A graph of names and passages on disk, grown and cut document by document.

One SQLite file: passages, names, which sentence of which passage holds which name, and, where a
model has read the passages, what it said of names and of pairs of names. Everything hangs on
passages: a document goes with all that it brought, and a name goes with its last passage.

A document is written in one transaction (WAL: readers see the state before or the state after,
and so does whoever opens the file after a crash). What it costs depends on the document alone:
every look-up is by key, and nothing is counted over the whole, so a document costs the same beside
100 others and beside 10,000 (but for the depth of a B-tree).

Cost: about 35 names a passage of 100 words, 4 KB; the passages stand in the file as well, so that
a search needs nothing else.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from llmwright.core import Chunk, Hit, InputError, content_hash, writing
from llmwright.retrieval.graph.names import name_key, read

_VERSION = 1
_SCHEMA = """
CREATE TABLE documents (id TEXT PRIMARY KEY, hash TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE languages (code TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE passages (
    id INTEGER PRIMARY KEY, chunk TEXT NOT NULL UNIQUE, title TEXT NOT NULL, record TEXT NOT NULL,
    document TEXT NOT NULL REFERENCES documents ON DELETE CASCADE);
CREATE INDEX passages_of ON passages (document);
CREATE TABLE names (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, spelling TEXT NOT NULL);
CREATE TABLE mentions (
    name INTEGER NOT NULL REFERENCES names,
    passage INTEGER NOT NULL REFERENCES passages ON DELETE CASCADE,
    sentence INTEGER NOT NULL,
    PRIMARY KEY (name, passage, sentence)) WITHOUT ROWID;
CREATE INDEX mentions_in ON mentions (passage, sentence);
CREATE TABLE extractions (
    passage INTEGER PRIMARY KEY REFERENCES passages ON DELETE CASCADE, status TEXT NOT NULL);
CREATE TABLE descriptions (
    name INTEGER NOT NULL REFERENCES names,
    passage INTEGER NOT NULL REFERENCES passages ON DELETE CASCADE,
    kind TEXT NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (name, passage)) WITHOUT ROWID;
CREATE INDEX descriptions_in ON descriptions (passage);
CREATE TABLE relations (
    source INTEGER NOT NULL REFERENCES names, target INTEGER NOT NULL REFERENCES names,
    passage INTEGER NOT NULL REFERENCES passages ON DELETE CASCADE,
    weight REAL NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (source, target, passage)) WITHOUT ROWID;
CREATE INDEX relations_back ON relations (target);
CREATE INDEX relations_in ON relations (passage);
CREATE TABLE communities (
    id INTEGER PRIMARY KEY, level INTEGER NOT NULL, parent INTEGER, stale INTEGER NOT NULL,
    title TEXT NOT NULL DEFAULT '', summary TEXT NOT NULL DEFAULT '',
    hash TEXT NOT NULL DEFAULT '');
CREATE TABLE members (
    name INTEGER NOT NULL REFERENCES names ON DELETE CASCADE, level INTEGER NOT NULL,
    community INTEGER NOT NULL REFERENCES communities ON DELETE CASCADE,
    PRIMARY KEY (name, level)) WITHOUT ROWID;
CREATE INDEX members_of ON members (community);
"""


class EntityGraph:
    """An open graph. Safe to use from several threads; one process writes at a time.

    >>> with EntityGraph("manual.graph") as graph:
    ...     graph.upsert("pump.md", chunks, title="The pump")
    ...     graph.mentions("Model 300", 10)
    """

    def __init__(self, path: str | Path) -> None:
        """Open the file, which is made where there is none. Raises ``InputError`` for a file
        that is no graph, or one of another version."""
        self.path = Path(path)
        with writing(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(
                self.path, timeout=60, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            with self.transaction():
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                empty = not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
                if not version and empty:
                    for statement in filter(str.strip, _SCHEMA.split(";")):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {_VERSION}")
                    version = _VERSION
        except sqlite3.Error as error:
            raise InputError(
                f"is no graph ({error})", where=str(self.path), fix="choose another file"
            ) from error
        if version != _VERSION:
            self.close()
            raise InputError(
                f"is a graph of version {version}, not {_VERSION}",
                where=str(self.path),
                fix="build it anew under another name",
            )

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> EntityGraph:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written in the block, or nothing of it."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database; for the other files of this folder."""
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def upsert(self, document_id: str, chunks: Sequence[Chunk], title: str = "") -> bool:
        """Add a document, or replace it where it differs; whether anything was to do."""
        digest = content_hash([title, [asdict(chunk) for chunk in chunks]])
        known = self.rows("SELECT hash FROM documents WHERE id = ?", document_id)
        if known == [(digest,)]:
            return False
        with self.transaction():
            self._remove(document_id)
            self._db.execute("INSERT INTO documents VALUES (?, ?)", (document_id, digest))
            for chunk in chunks:
                self._add(chunk, title)
        return True

    def delete(self, document_ids: Iterable[str]) -> int:
        """Remove documents with all that only they brought; how many there were."""
        removed = 0
        for identity in document_ids:
            with self.transaction():
                removed += self._remove(identity)
        return removed

    def documents(self) -> list[str]:
        """The ids of all documents, in order."""
        return [identity for (identity,) in self.rows("SELECT id FROM documents ORDER BY id")]

    def mentions(self, name: str, top: int) -> list[Hit]:
        """The first ``top`` passages that hold a name, however it is inflected; a ``Search``."""
        languages = [code for (code,) in self.rows("SELECT code FROM languages")]
        keys = sorted({name_key(name, code) for code in languages})
        rows = self.rows(
            "SELECT DISTINCT passages.id, record FROM names "
            "JOIN mentions ON mentions.name = names.id "
            "JOIN passages ON passages.id = mentions.passage "
            "WHERE key IN (SELECT value FROM json_each(?)) ORDER BY passages.id LIMIT ?",
            json.dumps(keys),
            top,
        )
        return [
            Hit(to_chunk(record), 1.0, {"name": rank})
            for rank, (_, record) in enumerate(rows, start=1)
        ]

    def title(self, chunk: Chunk) -> str:
        """The title of the document a chunk is of; empty where the graph has no such chunk."""
        rows = self.rows("SELECT title FROM passages WHERE chunk = ?", chunk.id)
        return str(rows[0][0]) if rows else ""

    def stats(self) -> dict[str, int]:
        """How much of what there is."""
        tables = ("documents", "passages", "names", "mentions", "relations", "communities")
        return {t: int(self.rows(f"SELECT count(*) FROM {t}")[0][0]) for t in tables}  # noqa: S608

    def _add(self, chunk: Chunk, title: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO languages VALUES (?)", (chunk.language,))
        passage = self._db.execute(
            "INSERT INTO passages (chunk, title, record, document) VALUES (?, ?, ?, ?)",
            (chunk.id, title, json.dumps(asdict(chunk), ensure_ascii=False), chunk.document_id),
        ).lastrowid
        for number, sentence in enumerate(read(chunk.text, title, chunk.language).sentences):
            for key, spelling in sentence.names.items():
                self._db.execute(
                    "INSERT OR IGNORE INTO mentions VALUES (?, ?, ?)",
                    (self.name(key, spelling), passage, number),
                )

    def name(self, key: str, spelling: str) -> int:
        """The number of a name, which is added where it is new; inside a transaction."""
        self._db.execute(
            "INSERT OR IGNORE INTO names (key, spelling) VALUES (?, ?)", (key, spelling)
        )
        return int(self.rows("SELECT id FROM names WHERE key = ?", key)[0][0])

    def _remove(self, document_id: str) -> int:
        touched = [
            name
            for table, column in (
                ("mentions", "name"),
                ("descriptions", "name"),
                ("relations", "source"),
                ("relations", "target"),
            )
            for (name,) in self.rows(
                f"SELECT DISTINCT {column} FROM {table} WHERE passage IN "  # noqa: S608
                "(SELECT id FROM passages WHERE document = ?)",
                document_id,
            )
        ]
        count = self._db.execute("DELETE FROM documents WHERE id = ?", (document_id,)).rowcount
        for name in sorted(set(touched)):
            self._db.execute(
                "UPDATE communities SET stale = 1 WHERE id IN "
                "(SELECT community FROM members WHERE name = ?)",
                (name,),
            )
            self._db.execute(
                "DELETE FROM names WHERE id = ?1 "
                "AND NOT EXISTS (SELECT 1 FROM mentions WHERE name = ?1) "
                "AND NOT EXISTS (SELECT 1 FROM descriptions WHERE name = ?1) "
                "AND NOT EXISTS (SELECT 1 FROM relations WHERE source = ?1) "
                "AND NOT EXISTS (SELECT 1 FROM relations WHERE target = ?1)",
                (name,),
            )
        return count


@lru_cache(maxsize=1 << 14)
def to_chunk(record: str) -> Chunk:
    """A chunk from its record in the table ``passages``."""
    return Chunk(**json.loads(record))
