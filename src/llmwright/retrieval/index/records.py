"""Between the vocabulary and the rows of the store, and what counts as the same document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from llmwright.core import Chunk, Document, InputError, Section, content_hash

Filter = Callable[[Chunk], bool] | Mapping[str, str]
"""A function of the chunk, or the values that its metadata or its ``document_id``, ``language``
and ``heading`` must have."""

CHUNK_COLUMNS = (
    "id", "document_id", "text", "start", "end", "heading", "language", "metadata",
)  # fmt: skip


def document_hash(document: Document) -> str:
    """Hash of everything a document holds. Raises ``InputError`` for text that is not Unicode."""
    try:
        return content_hash(asdict(document))
    except UnicodeEncodeError as error:
        raise InputError(
            f"holds half of a surrogate pair ({error.reason})",
            where=f"document {document.id!r}",
            fix="write the character as valid Unicode",
        ) from error


def by_id(documents: Iterable[Document]) -> dict[str, Document]:
    """Raises ``InputError`` for an empty id and for two documents of one id."""
    given: dict[str, Document] = {}
    for document in documents:
        where = document.source or "documents"
        if not document.id:
            raise InputError("a document has an empty id", where=where, fix="give each its own")
        if document.id in given:
            raise InputError(
                f"two documents have the id {document.id!r}", where=where, fix="give each its own"
            )
        given[document.id] = document
    return given


def document_row(document: Document, language: str) -> dict[str, Any]:
    """A row of the table ``documents``, with ``language`` in place of the one given."""
    return {
        "id": document.id,
        "hash": document_hash(document),
        "title": document.title,
        "source": document.source,
        "language": language,
        "text": document.text,
        "sections": to_json([asdict(section) for section in document.sections]),
        "metadata": to_json(dict(document.metadata)),
    }


def to_document(row: Mapping[str, Any]) -> Document:
    return Document(
        id=row["id"],
        text=row["text"],
        title=row["title"],
        source=row["source"],
        language=row["language"],
        sections=tuple(Section(**section) for section in json.loads(row["sections"])),
        metadata=json.loads(row["metadata"]),
    )


def to_chunk(row: Mapping[str, Any]) -> Chunk:
    values = {name: row[name] for name in CHUNK_COLUMNS}
    return Chunk(**{**values, "metadata": json.loads(row["metadata"])})


def matcher(filter: Filter) -> Callable[[Chunk], bool]:
    """The filter as a function."""
    if not isinstance(filter, Mapping):
        return filter
    wanted = dict(filter)
    own = ("document_id", "language", "heading")

    def accepts(chunk: Chunk) -> bool:
        return all(
            chunk.metadata.get(key, getattr(chunk, key) if key in own else None) == value
            for key, value in wanted.items()
        )

    return accepts


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
