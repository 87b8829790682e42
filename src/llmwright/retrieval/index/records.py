"""Between the vocabulary and the records of the store, and what counts as the same document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b, sha256
from typing import Any

from llmwright.core import Chunk, Document, InputError, Section

Filter = Callable[[Chunk], bool] | Mapping[str, str]
"""A function of the chunk, or the values that its metadata or its ``document_id``, ``language``
and ``heading`` must have."""

CHUNK_COLUMNS = (
    "id", "document_id", "text", "start", "end", "heading", "language", "metadata",
)  # fmt: skip

OWN_FIELDS = ("document_id", "language", "heading")
"""What a filter may ask for beside metadata."""


def document_hash(document: Document) -> str:
    """Hash of everything a document holds. Raises ``InputError`` for text that is not Unicode."""
    try:
        return sha256(document_record(document, document.language)).hexdigest()
    except UnicodeEncodeError as error:
        raise InputError(
            f"holds half of a surrogate pair ({error.reason})",
            where=f"document {document.id!r}",
            fix="write the character as valid Unicode",
        ) from error


def each_once(documents: Iterable[Document]) -> Iterator[Document]:
    """Documents as they come. Raises ``InputError`` for an empty id and for the second of two
    documents of one id."""
    seen: set[str] = set()
    for document in documents:
        where = document.source or "documents"
        if not document.id:
            raise InputError("a document has an empty id", where=where, fix="give each its own")
        if document.id in seen:
            raise InputError(
                f"two documents have the id {document.id!r}", where=where, fix="give each its own"
            )
        seen.add(document.id)
        yield document


def document_key(identity: str) -> int:
    """64 bits that stand for a document's id; whoever finds by them compares the id as well."""
    return int.from_bytes(blake2b(identity.encode(), digest_size=8).digest(), "little")


def document_record(document: Document, language: str) -> bytes:
    """A document as it is kept, with ``language`` in place of the one given."""
    sections = [[s.title, s.anchor, s.level, s.start, s.end] for s in document.sections]
    values = [document.id, document.title, document.source, language, document.text, sections]
    return to_json([*values, dict(document.metadata)]).encode()


def to_document(record: bytes) -> Document:
    identity, title, source, language, text, sections, metadata = json.loads(record)
    parts = tuple(Section(*section) for section in sections)
    return Document(identity, text, title, source, language, parts, metadata)


def chunk_record(chunk: Chunk) -> bytes:
    """A chunk as it is kept: the JSON of its ``CHUNK_COLUMNS``."""
    values = [getattr(chunk, name) for name in CHUNK_COLUMNS[:-1]]
    return to_json([*values, dict(chunk.metadata)]).encode()


def to_chunk(record: bytes) -> Chunk:
    return Chunk(*json.loads(record))


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
