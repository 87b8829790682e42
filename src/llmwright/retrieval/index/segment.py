"""One segment of an index: up to 65,536 chunks and some documents, written once, then only read.

    chunks      the chunks' records, in the order of their ids, which is that of the rows
    ids         the chunks' ids
    owners      [chunks] uint64      keys of the documents that the chunks are of
    languages   [chunks] uint16      numbers into ``segment.json``'s list of languages
    documents, document_ids          the documents' records and ids, in the order of the ids
    keys        [documents] uint64   keys of their ids, sorted, and in ``places`` where they stand
    hashes      [documents, 32]      SHA-256 of their content, in the order of their ids
    facets      which chunks have which metadata (``facets``)
    terms, ...  the inverted file (``lexical.postings``)
    dense.safetensors                vectors and codes (``dense.segment``)

A document's chunks may lie in several segments, and not with the document. Which chunks and
documents are alive is not said here: a commit may change that (``store``).

Rows are in the order of ids, so within a segment the lower row of two with equal scores is the
one of the lower id; merging keeps that. So no ranking depends on how chunks came to their
segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmwright.core import Chunk, Document, InputError, read_json, write_json
from llmwright.retrieval.dense.segment import DenseSegment, write_segment
from llmwright.retrieval.index.blobs import Blobs, write_blobs
from llmwright.retrieval.index.facets import Facets, merge_facets, write_facets
from llmwright.retrieval.index.records import (
    chunk_record,
    document_key,
    document_record,
    to_chunk,
)
from llmwright.retrieval.lexical.postings import Postings, map_array
from llmwright.retrieval.lexical.terms import PostingsBuilder

Mask = NDArray[np.bool_]


class Segment:
    """An open segment. Safe to use from many threads."""

    def __init__(self, folder: Path) -> None:
        """Raises ``InputError`` where it cannot be read."""
        self.folder, self.name = folder, folder.name
        try:
            self.postings = Postings.load(folder)
            self.chunks, self.ids = Blobs(folder, "chunks"), Blobs(folder, "ids")
            self.documents = Blobs(folder, "documents")
            self.document_ids = Blobs(folder, "document_ids")
            self.facets = Facets(folder)
            for name in ("owners", "languages", "keys", "places", "hashes"):
                setattr(self, name, map_array(folder / f"{name}.npy"))
            self.language_names: list[str] = read_json(folder / "segment.json")["languages"]
            self.dense = DenseSegment(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"cannot be read ({error})",
                where=str(folder),
                fix="copy the whole folder again, or index the documents again",
            ) from error
        self.rows = len(self.chunks)

    owners: NDArray[np.uint64]
    languages: NDArray[np.uint16]
    keys: NDArray[np.uint64]
    places: NDArray[np.int32]
    hashes: NDArray[np.uint8]

    def find(self, keys: NDArray[np.uint64]) -> list[tuple[int, int]]:
        """Of keys of documents, the numbers of those that are here, and where they stand."""
        if not len(self.keys):
            return []
        near = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        held = np.flatnonzero(self.keys[near] == keys)
        return list(zip(held.tolist(), self.places[near[held]].tolist(), strict=True))

    def owner(self, row: int) -> bytes:
        """The id of the document that a chunk is of."""
        return to_chunk(self.chunks[row]).document_id.encode()

    def language_counts(self, live: Mask | None) -> dict[str, int]:
        """How many live chunks each language has."""
        codes = self.languages if live is None else self.languages[live]
        counts = np.bincount(codes, minlength=len(self.language_names)).tolist()
        return {name: n for name, n in zip(self.language_names, counts, strict=True) if n}


@dataclass(slots=True)
class Batch:
    """What a new segment is made of. ``documents``: each with its language and hash; ``texts``:
    what the retrievers read of each chunk; ``votes`` [chunks]; ``vectors`` [chunks that vote,
    dimension], in the chunks' order."""

    documents: list[tuple[Document, str, str]]
    chunks: list[Chunk]
    texts: list[str]
    votes: Mask
    vectors: NDArray[np.float32]


def write(folder: Path, batch: Batch, builder: PostingsBuilder) -> None:
    """Write a segment into an empty folder."""
    order = sorted(range(len(batch.chunks)), key=lambda i: batch.chunks[i].id)
    chunks = [batch.chunks[i] for i in order]
    languages = [chunk.language for chunk in chunks]
    builder.build([batch.texts[i] for i in order], languages).save(folder)
    place = np.cumsum(batch.votes) - 1
    voting = [i for i in order if batch.votes[i]]
    write_segment(folder, batch.vectors[place[voting]], batch.votes[order])
    write_blobs(folder, "chunks", map(chunk_record, chunks))
    write_blobs(folder, "ids", (chunk.id.encode() for chunk in chunks))
    write_facets(folder, chunks)
    owners = np.array([document_key(chunk.document_id) for chunk in chunks], np.uint64)
    names = sorted(set(languages))
    number = {name: i for i, name in enumerate(names)}
    codes = np.array([number[name] for name in languages], np.uint16)
    documents = sorted(batch.documents, key=lambda about: about[0].id)
    write_blobs(folder, "documents", (document_record(d, known) for d, known, _ in documents))
    write_blobs(folder, "document_ids", (d.id.encode() for d, _, _ in documents))
    hashes = [bytes.fromhex(hash) for _, _, hash in documents]
    keys = np.array([document_key(d.id) for d, _, _ in documents], np.uint64)
    _write_arrays(folder, owners, codes, names, keys, hashes)


@dataclass(frozen=True, slots=True)
class Source:
    """A segment that goes into another: what is alive of its chunks and documents."""

    segment: Segment
    live: Mask
    documents: Mask


def merge(folder: Path, sources: Sequence[Source]) -> None:
    """Write what is alive of several segments as one into an empty folder."""
    parts = [source.segment for source in sources]
    ids, rows = _sorted([part.ids for part in parts], [source.live for source in sources])
    names_of = [part.document_ids for part in parts]
    document_ids, documents = _sorted(names_of, [source.documents for source in sources])
    moved = [np.full(source.segment.rows, -1, np.int64) for source in sources]
    for new, (number, row) in enumerate(rows):
        moved[number][row] = new
    Postings.merge([part.postings for part in parts], moved).save(folder)
    merge_facets(folder, [part.facets for part in parts], moved, len(rows))
    _merge_dense(folder, [part.dense for part in parts], moved, len(rows))
    write_blobs(folder, "chunks", (parts[number].chunks[row] for number, row in rows))
    write_blobs(folder, "ids", ids)
    names = sorted({name for part in parts for name in part.language_names})
    owners, codes = np.zeros(len(rows), np.uint64), np.zeros(len(rows), np.uint16)
    for part, to in zip(parts, moved, strict=True):
        numbers = np.array([names.index(name) for name in part.language_names], np.uint16)
        kept = to >= 0
        owners[to[kept]] = part.owners[kept]
        codes[to[kept]] = numbers[part.languages[kept]]
    write_blobs(folder, "documents", (parts[n].documents[place] for n, place in documents))
    write_blobs(folder, "document_ids", document_ids)
    hashes = [parts[n].hashes[place].tobytes() for n, place in documents]
    by_place = [np.empty_like(part.keys) for part in parts]
    for part, keys in zip(parts, by_place, strict=True):
        keys[part.places] = part.keys
    keys = np.array([by_place[n][place] for n, place in documents], np.uint64)
    _write_arrays(folder, owners, codes, names, keys, hashes)


Rows = list[tuple[int, int]]
"""Numbers of segments and places in them."""


def _sorted(ids: Sequence[Blobs], live: Sequence[Mask]) -> tuple[list[bytes], Rows]:
    """What is alive of several lists, by id: the ids, and where each stands."""
    found = [
        (strings[place], number, place)
        for number, (strings, mask) in enumerate(zip(ids, live, strict=True))
        for place in np.flatnonzero(mask).tolist()
    ]
    found.sort()
    return [identity for identity, _, _ in found], [(n, place) for _, n, place in found]


def _merge_dense(
    folder: Path, parts: Sequence[DenseSegment], moved: Sequence[NDArray[np.int64]], count: int
) -> None:
    votes = np.zeros(count, np.bool_)
    voting = [np.flatnonzero((to >= 0) & part.votes) for part, to in zip(parts, moved, strict=True)]
    for to, rows in zip(moved, voting, strict=True):
        votes[to[rows]] = True
    place = np.cumsum(votes) - 1
    vectors = np.empty((int(votes.sum()), parts[0].dimension), np.float32)
    for part, to, rows in zip(parts, moved, voting, strict=True):
        vectors[place[to[rows]]] = part.vectors(rows)
    write_segment(folder, vectors, votes)


def _write_arrays(
    folder: Path,
    owners: NDArray[np.uint64],
    languages: NDArray[np.uint16],
    names: list[str],
    keys: NDArray[np.uint64],
    hashes: list[bytes],
) -> None:
    order = np.argsort(keys)
    arrays: dict[str, NDArray[Any]] = {
        "owners": owners,
        "languages": languages,
        "keys": keys[order],
        "places": order.astype(np.int32),
        "hashes": np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    write_json(folder / "segment.json", {"languages": names})
