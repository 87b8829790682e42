"""One segment of an index: up to 65,536 chunks and some documents, written once, then only read.

    texts.blob           the records of the chunks, in the order of their ids, which is that of the
                         rows, then those of the documents, in the order of theirs
    segment.safetensors  where they begin, and:
      ids                        the chunks' ids, the bytes mapped
      owners [chunks] uint64     keys of the documents that the chunks are of
      languages [chunks] uint16  numbers into ``segment.json``'s list of languages
      document_ids               the documents' ids
      keys [documents] uint64    keys of their ids, sorted, and in ``places`` where they stand
      hashes [documents, 32]     SHA-256 of their content
      facets                     which chunks have which metadata (``facets``)
      terms, ...                 the inverted file (``lexical.postings``)
    dense.safetensors    vectors and codes (``dense.segment``)

Open, it holds four file descriptors, and of its memory what searches have touched: the inverted
file, ids and codes; texts and vectors are read when wanted.

A document's chunks may lie in several segments, and not with the document. Which chunks and
documents are alive is not said here: a commit may change that (``store``).

Rows are in the order of ids, so within a segment the lower row of two with equal scores is the
one of the lower id; merging keeps that. So no ranking depends on how chunks came to their
segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmwright.core import Chunk, Document, InputError, read_json, write_json
from llmwright.retrieval.dense.segment import DenseSegment, write_segment
from llmwright.retrieval.index.blobs import BlobFile, Blobs, mapped_blobs, packed, write_blobs
from llmwright.retrieval.index.facets import Facets, facets, merged_facets
from llmwright.retrieval.index.records import (
    chunk_record,
    document_key,
    document_record,
    to_chunk,
)
from llmwright.retrieval.lexical.arrays import Arrays, write_arrays
from llmwright.retrieval.lexical.postings import Postings
from llmwright.retrieval.lexical.terms import PostingsBuilder

Mask = NDArray[np.bool_]


class Segment:
    """An open segment. Safe to use from many threads."""

    def __init__(self, folder: Path) -> None:
        """Raises ``InputError`` where it cannot be read."""
        self.folder, self.name = folder, folder.name
        try:
            arrays = Arrays(folder / "segment.safetensors")
            self.postings, self.facets = Postings.of_arrays(arrays), Facets(arrays)
            self.ids, self.document_ids = (
                mapped_blobs(arrays, name) for name in ("ids", "document_ids")
            )
            texts = BlobFile(folder / "texts.blob")
            ends = arrays["chunks.ends"], arrays["documents.ends"]
            if texts.size != ends[1][-1]:
                raise ValueError("texts.blob is cut short")
            self.chunks, self.documents = (Blobs(own, texts.read) for own in ends)
            for name in ("owners", "languages", "keys", "places", "hashes"):
                setattr(self, name, arrays[name])
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
    postings = builder.build([batch.texts[i] for i in order], languages)
    place = np.cumsum(batch.votes) - 1
    voting = [i for i in order if batch.votes[i]]
    write_segment(folder, batch.vectors[place[voting]], batch.votes[order])
    documents = sorted(batch.documents, key=lambda about: about[0].id)
    names = sorted(set(languages))
    number = {name: i for i, name in enumerate(names)}
    keys = np.array([document_key(d.id) for d, _, _ in documents], np.uint64)
    arrays = {
        **postings.arrays(),
        **facets(chunks),
        **packed("ids", (chunk.id.encode() for chunk in chunks)),
        "owners": np.array([document_key(chunk.document_id) for chunk in chunks], np.uint64),
        "languages": np.array([number[name] for name in languages], np.uint16),
        **packed("document_ids", (d.id.encode() for d, _, _ in documents)),
        **_hashed(keys, [bytes.fromhex(digest) for _, _, digest in documents]),
    }
    records = (document_record(document, known) for document, known, _ in documents)
    _finish(folder, names, arrays, map(chunk_record, chunks), records)


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
    _merge_dense(folder, [part.dense for part in parts], moved, len(rows))
    names = sorted({name for part in parts for name in part.language_names})
    owners, codes = np.zeros(len(rows), np.uint64), np.zeros(len(rows), np.uint16)
    for part, to in zip(parts, moved, strict=True):
        numbers = np.array([names.index(name) for name in part.language_names], np.uint16)
        kept = to >= 0
        owners[to[kept]] = part.owners[kept]
        codes[to[kept]] = numbers[part.languages[kept]]
    by_place = [np.empty_like(part.keys) for part in parts]
    for part, keys in zip(parts, by_place, strict=True):
        keys[part.places] = part.keys
    hashes = [parts[n].hashes[place].tobytes() for n, place in documents]
    arrays = {
        **Postings.merge([part.postings for part in parts], moved).arrays(),
        **merged_facets([part.facets for part in parts], moved, len(rows)),
        **packed("ids", ids),
        "owners": owners,
        "languages": codes,
        **packed("document_ids", document_ids),
        **_hashed(np.array([by_place[n][place] for n, place in documents], np.uint64), hashes),
    }
    chunks = (parts[number].chunks[row] for number, row in rows)
    records = (parts[number].documents[place] for number, place in documents)
    _finish(folder, names, arrays, chunks, records)


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


def _hashed(keys: NDArray[np.uint64], hashes: list[bytes]) -> dict[str, NDArray[Any]]:
    order = np.argsort(keys)
    content = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)
    return {"keys": keys[order], "places": order.astype(np.int32), "hashes": content}


def _finish(
    folder: Path,
    names: list[str],
    arrays: dict[str, NDArray[Any]],
    chunks: Iterable[bytes],
    documents: Iterable[bytes],
) -> None:
    ends = write_blobs(folder / "texts.blob", chunks, documents)
    arrays |= {"chunks.ends": ends[0], "documents.ends": ends[1]}
    write_arrays(folder / "segment.safetensors", arrays)
    write_json(folder / "segment.json", {"languages": names})
