"""The index folder: segments that never change, and the file that names those that count.

    index.json          format, settings, embedder, counts, and the segments that are live
    segments/NAME/      see ``segment``; ``live.N.npy`` in it says what commit N left alive there
    .lock               held by the one process that writes

A commit writes new segments and new masks, then renames a new index.json over the old one.
Readers open what index.json names: they see the old state or the new one, and go on seeing it
however long they stay open, for they have mapped its files. A writer that is killed leaves
segments nobody names; the next commit removes them.

Adding never rewrites what stands, but small segments are merged (``due``): those under 2,048
chunks into one, larger ones when they make a full one together. So there are at most about
32 + N / 32,768 of them, each chunk is copied some four times in its life, and no commit handles
more than 65,536 chunks at once. A segment half of whose chunks are dead is written anew.

LanceDB, which held these tables before, took 2 to 10 ms to read ten hits by row where a mapped
file takes 0.1, 0.5 to 3 s to import, and kept every version of a row for ever. It is still a
vector store one can choose (``retrieval.stores``).
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmwright.core import InputError, atomic_folder, atomic_write, exclusive, read_json, write_json
from llmwright.retrieval.index.records import document_key
from llmwright.retrieval.index.segment import Batch, Mask, Segment, Source, merge, write
from llmwright.retrieval.lexical.postings import MAX_ROWS
from llmwright.retrieval.lexical.terms import PostingsBuilder

FORMAT = 3
SMALL = 2048
_KIND = "llmwright index"
_MANY = 16  # segments that are neither small nor full


@dataclass(frozen=True, slots=True)
class State:
    """What index.json says. ``chunking``: the fields of ``ChunkSettings``; ``embedder``: source,
    name, dimension, languages and fingerprint; ``segments``: each the name of one and the number
    of the commit whose mask holds, 0 where all of it is alive; ``languages`` counts chunks."""

    chunking: dict[str, Any]
    k1: float
    b: float
    ann_from: int
    embedder: dict[str, Any]
    commit: int = 0
    segments: list[tuple[str, int]] = field(default_factory=list)
    documents: int = 0
    chunks: int = 0
    languages: dict[str, int] = field(default_factory=dict)


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
        state = State(**{k: v for k, v in record.items() if k not in ("kind", "format")})
        return replace(state, segments=[(str(n), int(mask)) for n, mask in state.segments])
    except (TypeError, ValueError) as error:
        raise InputError(
            f"is damaged ({error})", where=str(file), fix="index the documents again"
        ) from error


@dataclass(slots=True)
class Opened:
    """A segment and what is alive of it; ``mask`` is the number of the commit that said so."""

    segment: Segment
    mask: int
    live: Mask  # [chunks]
    documents: Mask  # [documents]

    @property
    def count(self) -> int:
        """How many chunks are alive."""
        return int(self.live.sum())

    @property
    def alive(self) -> bool:
        """Whether anything is."""
        return bool(self.live.any() or self.documents.any())


def open_segments(path: Path, known: Sequence[Opened] = ()) -> tuple[State, list[Opened]]:
    """What index.json names, opened; again if a writer just replaced it. ``known`` segments are
    not opened anew."""
    by_name = {opened.segment.name: opened for opened in known}
    while True:
        state = read_state(path)
        try:
            return state, [_open(path, *named, by_name) for named in state.segments]
        except InputError:
            if read_state(path).commit == state.commit:
                raise


def _open(path: Path, name: str, mask: int, known: dict[str, Opened]) -> Opened:
    held = known.get(name)
    if held is not None and held.mask == mask:
        return held
    folder = path / "segments" / name
    segment = held.segment if held is not None else Segment(folder)
    alive = np.ones(segment.rows + len(segment.documents), np.bool_)
    if mask:
        try:
            alive = np.load(folder / f"live.{mask}.npy", allow_pickle=False)
            alive.reshape(segment.rows + len(segment.documents))
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot be read ({error})",
                where=str(folder),
                fix="copy the whole folder again, or index the documents again",
            ) from error
    return Opened(segment, mask, alive[: segment.rows], alive[segment.rows :])


def create_store(path: Path, state: State) -> None:
    """Make an empty index folder. Raises ``InputError`` where something stands at ``path``."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(
            "holds files already" if path.is_dir() else "is a file",
            where=str(path),
            fix="open it if it is an index, or name a new folder",
        )
    with atomic_folder(path) as temporary:
        (temporary / "segments").mkdir()
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


def due(sizes: Sequence[int]) -> list[int]:
    """Which of some segments, by the number of their live chunks, to merge now; [] if none."""
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    small = [i for i in order if sizes[i] < SMALL]
    if len(small) > 1:
        return small
    middle = [i for i in order if sizes[i] < MAX_ROWS // 2]
    if sum(sizes[i] for i in middle) < MAX_ROWS * 3 // 4 and len(middle) < _MANY:
        return []
    chosen: list[int] = []
    for i in middle:
        if sum(sizes[j] for j in chosen) + sizes[i] <= MAX_ROWS:
            chosen.append(i)
    return chosen


class Transaction:
    """Changes on top of the committed state, until ``commit``. One at a time, under the lock."""

    def __init__(self, path: Path, known: Sequence[Opened] = ()) -> None:
        self.path = path
        self.state, opened = open_segments(path, known)
        # Masks are changed in copies: whoever gave ``known`` goes on searching.
        self._opened = [
            replace(o, live=o.live.copy(), documents=o.documents.copy()) for o in opened
        ]
        self._number = self.state.commit + 1
        self._written = 0
        self._builder = PostingsBuilder()
        self._sweep([self.state])

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Content hashes of those documents that are in the index, by id."""
        return {
            identity: opened.segment.hashes[place].tobytes().hex()
            for opened, place, identity in self._find(ids)
        }

    def delete(self, ids: Sequence[str]) -> None:
        """Documents and their chunks are no longer alive."""
        if not ids:
            return
        for opened, place, _ in self._find(ids):
            opened.documents[place] = False
            opened.mask = self._number
        keys = np.array([document_key(identity) for identity in ids], np.uint64)
        wanted = {identity.encode() for identity in ids}
        for opened in self._opened:
            for row in np.flatnonzero(np.isin(opened.segment.owners, keys)).tolist():
                if opened.segment.owner(row) in wanted:
                    opened.live[row] = False
                    opened.mask = self._number

    def add(self, batch: Batch) -> None:
        """Write a segment, and merge what is due."""
        self._new(lambda folder: write(folder, batch, self._builder))
        self._merge()

    def commit(self) -> None:
        """Make all changes current."""
        for opened in [o for o in self._opened if 2 * o.count < o.segment.rows or not o.alive]:
            self._replace([opened])
        self._merge()
        languages: Counter[str] = Counter()
        for opened in self._opened:
            languages.update(opened.segment.language_counts(opened.live))
            if opened.mask == self._number:
                alive = np.concatenate([opened.live, opened.documents])
                file = opened.segment.folder / f"live.{self._number}.npy"
                with atomic_write(file) as temporary, temporary.open("wb") as out:
                    np.save(out, alive)
        before = self.state
        self.state = replace(
            before,
            commit=self._number,
            segments=[(opened.segment.name, opened.mask) for opened in self._opened],
            documents=sum(int(opened.documents.sum()) for opened in self._opened),
            chunks=sum(opened.count for opened in self._opened),
            languages=dict(sorted(languages.items())),
        )
        _write_state(self.path, self.state)
        # What was current stays for readers that have just read the old index.json.
        self._sweep([self.state, before])

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, *_: object) -> None:
        """What was not committed goes."""
        if self.state.commit != self._number:
            self._sweep([self.state])

    def _find(self, ids: Sequence[str]) -> Iterable[tuple[Opened, int, str]]:
        """Where living documents stand."""
        keys = np.array([document_key(identity) for identity in ids], np.uint64)
        for opened in self._opened:
            for number, place in opened.segment.find(keys):
                same = opened.segment.document_ids[place] == ids[number].encode()
                if same and opened.documents[place]:
                    yield opened, place, ids[number]

    def _merge(self) -> None:
        while chosen := due([opened.count for opened in self._opened]):
            self._replace([self._opened[i] for i in chosen])

    def _replace(self, old: Sequence[Opened]) -> None:
        """Write what is alive of some segments as one."""
        self._opened = [o for o in self._opened if all(o is not gone for gone in old)]
        sources = [Source(o.segment, o.live, o.documents) for o in old if o.alive]
        if sources:
            self._new(lambda folder: merge(folder, sources))
        committed = {name for name, _ in self.state.segments}
        for opened in old:
            if opened.segment.name not in committed:
                shutil.rmtree(opened.segment.folder, ignore_errors=True)

    def _new(self, write_into: Callable[[Path], None]) -> None:
        self._written += 1
        folder = self.path / "segments" / f"{self._number:08d}-{self._written}"
        with atomic_folder(folder) as temporary:
            write_into(temporary)
        self._opened.append(_open(self.path, folder.name, 0, {}))

    def _sweep(self, states: Sequence[State]) -> None:
        """Remove the segments and masks that none of the states names."""
        masks = {(name, f"live.{mask}.npy") for state in states for name, mask in state.segments}
        names = {name for name, _ in masks}
        for folder in (self.path / "segments").iterdir():
            if folder.name not in names:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            for file in folder.glob("live.*.npy"):
                if (folder.name, file.name) not in masks:
                    file.unlink(missing_ok=True)
