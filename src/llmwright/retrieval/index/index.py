"""A searchable folder of documents: what is public of the store, the retrievers and the fusion.

Adding documents embeds and analyses only what changed; BM25's statistics are recounted from
stored term hashes. Any number of processes may have the folder open for reading while one
writes; each sees the state it opened (see ``store`` for how).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from llmwright.core import (
    Chunk,
    ConfigurationError,
    Document,
    Embedder,
    Hit,
    InputError,
    SearchMode,
    canonical_json,
    content_hash,
)
from llmwright.retrieval.chunking import DEFAULT_OVERLAP, DEFAULT_SIZE, check_sizes
from llmwright.retrieval.dense.cosine import ANN_FROM
from llmwright.retrieval.index.indexing import prepare
from llmwright.retrieval.index.records import (
    CHUNK_COLUMNS,
    Filter,
    by_id,
    document_hash,
    matcher,
    to_chunk,
    to_document,
)
from llmwright.retrieval.index.searching import Ranked, Searcher
from llmwright.retrieval.index.store import (
    Snapshot,
    State,
    Transaction,
    create_store,
    document_hashes,
    writer_lock,
)
from llmwright.retrieval.lexical.bm25 import K1, B
from llmwright.retrieval.ranking.fusion import DEFAULT_FUSION, Fusion

_IN_MEMORY = 20_000  # chunks kept once read: about 30 MB; larger indexes read what they show


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
        ann_from: int = ANN_FROM,
    ) -> Index:
        """Make an empty index in a new folder.

        ``embedder`` is an embedder, or its source, which the index then remembers. Sizes are in
        approximate tokens (``chunk_document``). From ``ann_from`` rows on, dense search is
        approximate. Raises ``InputError`` where files stand at ``path``, ``ConfigurationError``
        for sizes that ``chunk_document`` refuses.
        """
        path = Path(path)
        source = ""
        if isinstance(embedder, str):
            from llmwright.embeddings import load_embedder

            # A path is kept whole: the index may be opened from another folder.
            source = str(Path(embedder).absolute()) if Path(embedder).exists() else embedder
            embedder = load_embedder(embedder)
        check_sizes(chunk_size, chunk_overlap)
        known = embedder.languages
        about = {
            "source": source,
            "name": embedder.name,
            "dimension": embedder.dimension,
            "languages": sorted(known) if known is not None else None,
            "fingerprint": _fingerprint(embedder),
        }
        create_store(path, State(chunk_size, chunk_overlap, K1, B, ann_from, about))
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

    def upsert(self, documents: Iterable[Document]) -> Changes:
        """Add documents, replace those whose id is known and whose content differs.

        Unchanged documents cost a hash each. All become visible together. Raises ``InputError``
        for two documents of one id and where the folder may not be written, ``CapacityError``
        where another process is writing.
        """
        changes = Changes()
        given = by_id(documents)
        with writer_lock(self.path):
            transaction = Transaction(self.path)
            stored = transaction.hashes
            changed: list[Document] = []
            for document in given.values():
                old = stored.get(document.id)
                if not document.text.strip():
                    changes.skipped.append(document.id)
                    if old is not None:
                        changes.removed.append(document.id)
                elif old == document_hash(document):
                    changes.unchanged.append(document.id)
                else:
                    (changes.added if old is None else changes.updated).append(document.id)
                    changed.append(document)
            if changed or changes.removed:
                embedder = self._embedder if changed else None
                rows, chunks = prepare(changed, embedder, transaction.state)
                transaction.delete([*changes.updated, *changes.removed])
                transaction.add(rows, chunks)
                transaction.commit()
        self._take_up()
        return changes

    def delete(self, ids: Iterable[str]) -> int:
        """Remove documents; how many there were. Unknown ids are passed over."""
        with writer_lock(self.path):
            transaction = Transaction(self.path)
            known = sorted(set(ids) & transaction.hashes.keys())
            if known:
                transaction.delete(known)
                transaction.commit()
        self._take_up()
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
        if not self._check_search(mode, top):
            return [[] for _ in queries]
        allowed = self._allowed(filter)
        found = self._searcher.search(queries, top, mode, allowed, lambda: self._embedder, fusion)
        return self._hits(found)

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
        if not self._check_search("hybrid", depth):
            return [{} for _ in queries]
        allowed = self._allowed(filter)
        ranked = self._searcher.rankings(
            queries, depth, "hybrid", allowed, lambda: self._embedder, fusion
        )
        ids = list(self._snapshot.row_of)
        return [
            {name: [(ids[row], score) for row, score in found] for name, found in by_name.items()}
            for by_name in ranked
        ]

    def _check_search(self, mode: str, top: int) -> bool:
        """Whether there is anything to search."""
        if mode not in ("hybrid", "lexical", "dense"):
            raise ConfigurationError(
                f"{mode!r} is not a mode", where="search", fix="use hybrid, lexical or dense"
            )
        if top < 1:
            raise ConfigurationError(f"top is {top}", where="search", fix="give 1 or more")
        return bool(self._snapshot.state.chunks)

    def _allowed(self, filter: Filter | None) -> list[bool] | None:
        if filter is None:
            return None
        accepts = matcher(filter)
        return [accepts(chunk) for chunk in self._all]

    def documents(self) -> Iterator[Document]:
        """All documents, in the order of their ids."""
        rows = self._snapshot.documents.search().to_arrow().to_pylist()
        for row in sorted(rows, key=lambda row: str(row["id"])):
            yield to_document(row)

    def document(self, identity: str) -> Document:
        """One document. Raises ``InputError`` where there is none of that id."""
        quoted = identity.replace("'", "''")
        found = self._snapshot.documents.search().where(f"id = '{quoted}'").to_list()
        if not found:
            raise InputError(
                f"holds no document {identity!r}",
                where=str(self.path),
                fix="look at the ids it holds, or index that document",
            )
        return to_document(found[0])

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, in the order of their ids."""
        yield from self._all

    def section_span(self, label: str) -> tuple[str, int, int]:
        """What ``"lora.md"`` or ``"lora.md#rank"`` names: document id, start and end.

        Raises ``InputError`` where there is no such document or section.
        """
        identity, _, anchor = label.partition("#")
        if label in self._hashes:  # an id may hold a "#" itself
            identity, anchor = label, ""
        if identity not in self._hashes:
            raise InputError(
                "no document of that id is indexed",
                where=f"relevant {label!r}",
                fix="write ids as a search shows them",
            )
        document = self.document(identity)
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

    def stats(self) -> dict[str, Any]:
        """Counts and settings, ready for JSON."""
        state = self._snapshot.state
        return {
            "documents": state.documents,
            "chunks": state.chunks,
            "languages": dict(state.languages or {}),
            "chunk_size": state.chunk_size,
            "chunk_overlap": state.chunk_overlap,
            "embedder": state.embedder["name"],
            "approximate": state.ann,
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
        fields = [*CHUNK_COLUMNS, "votes"]
        if not state.embedder["fingerprint"]:
            fields.append("vector")
        records = self._snapshot.table(fields).to_pylist()
        hashes = sorted(self._hashes.values())
        parts = [state.chunk_size, state.chunk_overlap, state.k1, state.b, settings, hashes]
        return content_hash(
            "\n".join([canonical_json(parts), *(canonical_json(record) for record in records)])
        )

    def _take_up(self) -> None:
        self._snapshot = Snapshot(self.path)
        self._searcher = Searcher(self._snapshot)
        for name in ("_all", "_hashes"):
            self.__dict__.pop(name, None)

    @cached_property
    def _embedder(self) -> Embedder:
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

    @cached_property
    def _all(self) -> list[Chunk]:
        return [to_chunk(row) for row in self._snapshot.table(CHUNK_COLUMNS).to_pylist()]

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return document_hashes(self._snapshot.documents)

    def _hits(self, found: Sequence[Ranked]) -> list[list[Hit]]:
        """Chunks are read at once for all queries, from memory where the index is small."""
        rows = sorted({row for ranking in found for row, _, _ in ranking})
        if self._snapshot.state.chunks <= _IN_MEMORY:
            chunks = {row: self._all[row] for row in rows}
        else:
            records = self._snapshot.records(rows, CHUNK_COLUMNS) if rows else []
            chunks = {row: to_chunk(record) for row, record in zip(rows, records, strict=True)}
        return [[Hit(chunks[row], score, ranks) for row, score, ranks in r] for r in found]


def _fingerprint(embedder: Embedder) -> str:
    return str(getattr(embedder, "fingerprint", ""))
