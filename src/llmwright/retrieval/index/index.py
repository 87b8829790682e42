"""A searchable folder of documents: what is public of the store, the retrievers and the fusion.

Adding documents embeds, analyses and writes only what changed. Any number of processes may have
the folder open for reading while one writes; each sees the state it opened (``store`` says how).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmwright.core import (
    Chunk,
    ConfigurationError,
    Document,
    Embedder,
    Hit,
    InputError,
    SearchMode,
    canonical_json,
)
from llmwright.retrieval.chunking import DEFAULT_OVERLAP, DEFAULT_SIZE, ChunkSettings
from llmwright.retrieval.dense.cosine import ANN_FROM
from llmwright.retrieval.index.indexing import Contexts, check_late, prepare
from llmwright.retrieval.index.records import Filter, document_hash, each_once, to_chunk
from llmwright.retrieval.index.searching import Searcher
from llmwright.retrieval.index.snapshot import Snapshot
from llmwright.retrieval.index.store import Opened, State, Transaction, create_store, writer_lock
from llmwright.retrieval.lexical.bm25 import K1, B
from llmwright.retrieval.ranking.fusion import DEFAULT_FUSION, Fusion

_LOOKED_UP = 1024  # documents whose hashes are looked up at once


@dataclass(frozen=True, slots=True)
class Changes:
    """Ids of documents by what became of them. A document without text is ``skipped``; where
    one of that id stood, it is also ``removed``."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


class Index:
    """An open index. Use :meth:`create` or :meth:`open`.

    An object sees the state it opened and its own changes; what others wrote since is seen by
    opening again. Searching from several threads is safe; changing is for one at a time.
    """

    def __init__(self, path: Path, embedder: Embedder | None) -> None:
        self.path = path
        self._given = embedder
        self._take_up()

    @classmethod
    def create(
        cls,
        path: str | Path,
        embedder: Embedder | str,
        *,
        chunk_size: int = DEFAULT_SIZE,
        chunk_overlap: int = DEFAULT_OVERLAP,
        chunking: ChunkSettings | None = None,
        ann_from: int = ANN_FROM,
    ) -> Index:
        """Make an empty index in a new folder.

        ``embedder`` is an embedder, or its source, which the index then remembers. Documents are
        cut as ``chunking`` says, or recursively at the sizes given, in approximate tokens. From
        ``ann_from`` rows on, dense search is approximate. Raises ``InputError`` where files stand
        at ``path``, ``ConfigurationError`` for sizes that are out of range.
        """
        path = Path(path)
        source = ""
        if isinstance(embedder, str):
            from llmwright.embeddings import load_embedder

            # A path is kept whole: the index may be opened from another folder.
            source = str(Path(embedder).absolute()) if Path(embedder).exists() else embedder
            embedder = load_embedder(embedder)
        chunking = chunking or ChunkSettings("recursive", chunk_size, chunk_overlap)
        check_late(embedder, chunking)
        known = embedder.languages
        about = {
            "source": source,
            "name": embedder.name,
            "dimension": embedder.dimension,
            "languages": sorted(known) if known is not None else None,
            "fingerprint": _fingerprint(embedder),
        }
        create_store(path, State(asdict(chunking), K1, B, ann_from, about))
        return cls(path, embedder)

    @classmethod
    def open(cls, path: str | Path, embedder: Embedder | None = None) -> Index:
        """Open an index, for reading until something is changed.

        Without ``embedder``, the one the index was made with is loaded when first needed.
        Raises ``InputError`` where ``path`` is no index, and ``ConfigurationError`` for another
        embedder than the one its vectors came from.
        """
        index = cls(Path(path), embedder)
        if embedder is not None:
            index._check(embedder)
        return index

    def upsert(self, documents: Iterable[Document], *, contexts: Contexts | None = None) -> Changes:
        """Add documents, replace those whose id is known and whose content differs.

        Unchanged documents cost a hash each. Documents are read as they come, some thousands at
        a time; all become visible together. ``contexts`` (a ``chunking.ContextWriter``) writes a
        sentence for each new chunk that both retrievers read with it. Raises ``InputError`` for
        two documents of one id and where the folder may not be written, ``CapacityError`` where
        another process is writing.
        """
        changes = Changes()
        with writer_lock(self.path), Transaction(self.path, self._snapshot.opened) as transaction:
            changed = self._changed(documents, transaction, changes)
            first = next(changed, None)
            if first is not None:
                given = chain([first], changed)
                for batch in prepare(given, self.embedder, self.chunking, contexts):
                    transaction.add(batch)
            if changes.added or changes.updated or changes.removed:
                transaction.commit()
        self._take_up(self._snapshot.opened)
        return changes

    def _changed(
        self, documents: Iterable[Document], transaction: Transaction, changes: Changes
    ) -> Iterator[tuple[Document, str]]:
        """The documents to be written, with their hashes; what stood in their place is deleted."""
        given = each_once(documents)
        while block := list(islice(given, _LOOKED_UP)):
            stored = transaction.hashes([document.id for document in block])
            gone, kept = [], []
            for document in block:
                old = stored.get(document.id)
                if not document.text.strip():
                    changes.skipped.append(document.id)
                    if old is not None:
                        changes.removed.append(document.id)
                        gone.append(document.id)
                    continue
                new = document_hash(document)
                if old == new:
                    changes.unchanged.append(document.id)
                    continue
                (changes.added if old is None else changes.updated).append(document.id)
                gone += [document.id] * (old is not None)
                kept.append((document, new))
            transaction.delete(gone)
            yield from kept

    def delete(self, ids: Iterable[str]) -> int:
        """Remove documents; how many there were. Unknown ids are passed over."""
        with writer_lock(self.path), Transaction(self.path, self._snapshot.opened) as transaction:
            known = sorted(transaction.hashes(sorted(set(ids))))
            if known:
                transaction.delete(known)
                transaction.commit()
        self._take_up(self._snapshot.opened)
        return len(known)

    def search(
        self,
        query: str,
        top: int = 10,
        *,
        mode: SearchMode = "hybrid",
        filter: Filter | None = None,
        fusion: Fusion = DEFAULT_FUSION,
    ) -> list[Hit]:
        """The ``top`` best chunks for a query, best first.

        ``hybrid`` fuses both retrievers as ``fusion`` says, by reciprocal rank if not told; the
        embedder votes only in languages it knows, so ``dense`` alone finds nothing in others.
        The score is the fused one, BM25's or the cosine. ``filter`` is a function of the chunk,
        or values that its metadata (or its ``document_id``, ``language``, ``heading``) must
        have. A query without a word to look for
        finds nothing. Raises ``ConfigurationError`` for a mode or ``top`` that is not one.
        """
        return self.search_many([query], top, mode=mode, filter=filter, fusion=fusion)[0]

    def search_many(
        self,
        queries: Sequence[str],
        top: int = 10,
        *,
        mode: SearchMode = "hybrid",
        filter: Filter | None = None,
        fusion: Fusion = DEFAULT_FUSION,
    ) -> list[list[Hit]]:
        """:meth:`search` for many queries at once; they are embedded in one batch."""
        searcher = self._searcher  # another thread may change the index
        if not _searchable(searcher, mode, top):
            return [[] for _ in queries]
        allowed = None if filter is None else searcher.snapshot.allowed(filter)
        found = searcher.search(queries, top, mode, allowed, lambda: self.embedder, fusion)
        chunk = searcher.snapshot.chunk
        return [[Hit(chunk(row), score, ranks) for row, score, ranks in r] for r in found]

    def rankings(
        self,
        queries: Sequence[str],
        depth: int = 100,
        *,
        filter: Filter | None = None,
        fusion: Fusion = DEFAULT_FUSION,
    ) -> list[dict[str, list[tuple[str, float]]]]:
        """What each retriever of a hybrid search finds, by its name, before they are fused.

        For each query, by name, (chunk id, score), best first and at least ``depth`` where there
        are as many: what ``ranking.learning.learn_fusion`` learns weights from, and what further
        retrievers' rankings can join. ``fusion`` chooses the passages that are fed back.
        """
        searcher = self._searcher
        if not _searchable(searcher, "hybrid", depth):
            return [{} for _ in queries]
        allowed = None if filter is None else searcher.snapshot.allowed(filter)
        ranked = searcher.rankings(queries, depth, "hybrid", allowed, lambda: self.embedder, fusion)
        identity = searcher.snapshot.chunk_id
        return [
            {
                name: [(identity(row).decode(), score) for row, score in found]
                for name, found in by_name.items()
            }
            for by_name in ranked
        ]

    def documents(self) -> Iterator[Document]:
        """All documents, in the order of their ids."""
        yield from self._snapshot.documents()

    def document(self, identity: str) -> Document:
        """One document. Raises ``InputError`` where there is none of that id."""
        found = self._snapshot.document(identity)
        if found is None:
            raise InputError(
                f"holds no document {identity!r}",
                where=str(self.path),
                fix="look at the ids it holds, or index that document",
            )
        return found

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, in the order of their ids."""
        for opened, row in self._snapshot.live_rows():
            yield to_chunk(opened.segment.chunks[row])

    def vectors(self) -> Iterator[tuple[Chunk, NDArray[np.float32]]]:
        """The chunks that have a vector [dimension], with it, in the order of their ids."""
        for opened, row in self._snapshot.live_rows():
            dense = opened.segment.dense
            if dense.votes[row]:
                yield to_chunk(opened.segment.chunks[row]), dense.vectors(np.array([row]))[0]

    def section_span(self, label: str) -> tuple[str, int, int]:
        """What ``"lora.md"`` or ``"lora.md#rank"`` names: document id, start and end.

        Raises ``InputError`` where there is no such document or section.
        """
        identity, anchor = label, ""
        document = self._snapshot.document(identity)
        if document is None:  # an id may hold a "#" itself
            identity, _, anchor = label.partition("#")
            document = self._snapshot.document(identity)
        if document is None:
            raise InputError(
                "no document of that id is indexed",
                where=f"relevant {label!r}",
                fix="write ids as a search shows them",
            )
        if not anchor:
            return identity, 0, len(document.text)
        for section in document.sections:
            if section.anchor == anchor:
                return identity, section.start, section.end
        raise InputError(
            f"the document has no section #{anchor}",
            where=f"relevant {label!r}",
            fix=f"sections: {', '.join('#' + s.anchor for s in document.sections) or 'none'}",
        )

    @property
    def chunking(self) -> ChunkSettings:
        """How its documents are cut."""
        return ChunkSettings(**self._snapshot.state.chunking)

    def stats(self) -> dict[str, Any]:
        """Counts and settings, ready for JSON."""
        state = self._snapshot.state
        return {
            "documents": state.documents,
            "chunks": state.chunks,
            "languages": dict(state.languages),
            "chunk_size": state.chunking["size"],
            "chunk_overlap": state.chunking["overlap"],
            "chunking": state.chunking["strategy"],
            "embedder": state.embedder["name"],
            "approximate": sum(s.voting for s in self._snapshot.dense) >= state.ann_from,
            "segments": len(state.segments),
        }

    def digest(self) -> str:
        """SHA-256 over the content: documents, chunks, settings, vectors; not over how or in
        what order they came or lie on disk.

        Vectors are a function of the chunk and of the weights, exact but for the last bits,
        which vary with the batch a text was embedded in. So where the embedder has a
        fingerprint, that stands for them; their bytes are hashed where it has none.
        """
        state = self._snapshot.state
        settings = {k: v for k, v in state.embedder.items() if k != "source"}
        hashes = self._snapshot.document_hashes()
        parts = [state.chunking, state.k1, state.b, settings, hashes]
        digest = sha256(canonical_json(parts).encode())
        for opened, row in self._snapshot.live_rows():
            dense = opened.segment.dense
            digest.update(opened.segment.chunks[row])
            digest.update(b"\n1" if dense.votes[row] else b"\n0")
            if dense.votes[row] and not state.embedder["fingerprint"]:
                digest.update(dense.vectors(np.array([row])).tobytes())
        return digest.hexdigest()

    def _take_up(self, known: Sequence[Opened] = ()) -> None:
        self._searcher = Searcher(Snapshot(self.path, known))

    @property
    def _snapshot(self) -> Snapshot:
        return self._searcher.snapshot

    @cached_property
    def embedder(self) -> Embedder:
        """What its vectors come from, loaded when first asked for. Raises ``ConfigurationError``
        where the index does not know, or was made with another one."""
        embedder = self._given
        if embedder is None:
            source = self._snapshot.state.embedder["source"]
            if not source:
                raise ConfigurationError(
                    "does not know where its embedder comes from",
                    where=str(self.path),
                    fix="open it with embedder=, or search with mode lexical",
                )
            from llmwright.embeddings import load_embedder

            embedder = load_embedder(source)
        self._check(embedder)
        return embedder

    def _check(self, embedder: Embedder) -> None:
        about = self._snapshot.state.embedder
        theirs = (_fingerprint(embedder), embedder.dimension)
        if theirs != (about["fingerprint"], about["dimension"]):
            raise ConfigurationError(
                f"its vectors come from {about['name']} ({about['fingerprint'][:12]}), which is "
                f"not the embedder given, {embedder.name} ({theirs[0][:12]})",
                where=str(self.path),
                fix="open it with the embedder it was made with, or index the documents again",
            )


def _searchable(searcher: Searcher, mode: str, top: int) -> bool:
    """Whether there is anything to search. Raises ``ConfigurationError``."""
    if mode not in ("hybrid", "lexical", "dense"):
        raise ConfigurationError(
            f"{mode!r} is not a mode", where="search", fix="use hybrid, lexical or dense"
        )
    if top < 1:
        raise ConfigurationError(f"top is {top}", where="search", fix="give 1 or more")
    return bool(searcher.snapshot.state.chunks)


def _fingerprint(embedder: Embedder) -> str:
    return str(getattr(embedder, "fingerprint", ""))
