"""Vectors kept by content: a text that was embedded once is looked up.

The key is the hash of the model's fingerprint, the kind (query or document) and the text; the
value the vector's bytes in float32, so a hit has the bits of the first time, and vectors of
another model are never found. One SQLite file in WAL mode: any number of threads and processes
may read and add at once, and a process that is killed leaves the file whole.

Cost: about 5 microseconds a hit, and 4 * dimension + 80 bytes a text on disk; nothing is ever
removed (delete the file to empty it).
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmwright.core import ConfigurationError, Embedder, InputError

_AT_ONCE = 500  # keys in one question to the database
_EMBEDDED_AT_ONCE = 2048  # texts embedded before their vectors are kept
_WAIT = 30.0  # seconds for another process that writes

Kind = Literal["query", "document"]


class CachedEmbedder:
    """An ``Embedder`` that asks ``embedder`` only for texts not yet in the file at ``path``.

    Raises ``ConfigurationError`` for an embedder without a fingerprint, whose vectors could not
    be told from another's, and ``InputError`` where the file is no such cache.
    """

    def __init__(self, embedder: Embedder, path: str | Path) -> None:
        self.fingerprint = str(getattr(embedder, "fingerprint", ""))
        if not self.fingerprint:
            raise ConfigurationError(
                "does not say which weights it computes with (it has no fingerprint)",
                where=embedder.name,
                fix="use it without a cache",
            )
        self.path = Path(path)
        self._embedder = embedder
        # The vector of a late chunk depends on the whole text: it is passed on, and not kept.
        if (embed_spans := getattr(embedder, "embed_spans", None)) is not None:
            self.embed_spans = embed_spans
        self._lock = threading.Lock()
        self._connections: dict[int, sqlite3.Connection] = {}  # by process: none is shared
        with self._database():
            pass  # a file that is none is refused now

    def __repr__(self) -> str:
        return f"CachedEmbedder({self._embedder!r}, {str(self.path)!r})"

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    @property
    def languages(self) -> frozenset[str] | None:
        return self._embedder.languages

    def embed(self, texts: Sequence[str], *, kind: Kind = "document") -> NDArray[np.float32]:
        """Vectors of ``texts``: [texts, dimension], each of length 1."""
        keys = [self._key(kind, text) for text in texts]
        places: dict[bytes, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(key, []).append(place)
        found = self._look_up(list(places))
        missing = [key for key in places if key not in found]
        for start in range(0, len(missing), _EMBEDDED_AT_ONCE):
            part = missing[start : start + _EMBEDDED_AT_ONCE]
            vectors = self._embedder.embed([texts[places[key][0]] for key in part], kind=kind)
            new = dict(zip(part, np.asarray(vectors, np.float32), strict=True))
            self._keep(new)
            found.update(new)
        if not found:
            return np.empty((0, self.dimension), np.float32)
        return np.stack([found[key] for key in keys])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if connection := self._connections.pop(os.getpid(), None):
                connection.close()

    def _key(self, kind: Kind, text: str) -> bytes:
        """Half of a surrogate pair is hashed as the question mark it is embedded as."""
        parts = (self.fingerprint, kind, text)
        digest = hashlib.sha256()
        for raw in (part.encode(errors="replace") for part in parts):
            digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.digest()

    def _look_up(self, keys: list[bytes]) -> dict[bytes, NDArray[np.float32]]:
        found: dict[bytes, NDArray[np.float32]] = {}
        with self._database() as database:
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                rows = database.execute(
                    f"SELECT key, vector FROM vectors WHERE key IN ({marks})",  # noqa: S608
                    part,
                )
                found.update((key, np.frombuffer(raw, "<f4")) for key, raw in rows)
        return found

    def _keep(self, vectors: dict[bytes, NDArray[np.float32]]) -> None:
        rows = [(key, vector.astype("<f4").tobytes()) for key, vector in vectors.items()]
        with self._database() as database, database:  # the inner one commits
            database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connections.get(os.getpid()) or self._open()
            except sqlite3.Error as error:
                raise InputError(
                    f"cannot be used as a cache of vectors ({error})",
                    where=str(self.path),
                    fix="name another file, or remove this one",
                ) from error

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise sqlite3.OperationalError(str(error)) from error
        connection = sqlite3.connect(self.path, timeout=_WAIT, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS vectors"
            " (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
        )
        self._connections[os.getpid()] = connection
        return connection
