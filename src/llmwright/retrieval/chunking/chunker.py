"""A document and its settings in, chunks out: the one place that knows every way of cutting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import overload

from llmwright.core import Chunk, ConfigurationError, Document, Embedder
from llmwright.retrieval.chunking.fixed import fixed_spans
from llmwright.retrieval.chunking.parents import PARENT, parent_child_spans
from llmwright.retrieval.chunking.recursive import recursive_spans
from llmwright.retrieval.chunking.sentence import sentence_spans
from llmwright.retrieval.chunking.settings import DEFAULT_OVERLAP, DEFAULT_SIZE, ChunkSettings
from llmwright.retrieval.chunking.spans import Count, Part, Span, approximate_tokens
from llmwright.retrieval.chunking.structure import structure_spans


@overload
def chunk_document(
    document: Document,
    size: ChunkSettings,
    *,
    count: Count = ...,
    embedder: Embedder | None = None,
) -> list[Chunk]: ...


@overload
def chunk_document(
    document: Document,
    size: int = DEFAULT_SIZE,
    overlap: int = DEFAULT_OVERLAP,
    count: Count = ...,
) -> list[Chunk]: ...


def chunk_document(
    document: Document,
    size: ChunkSettings | int = DEFAULT_SIZE,
    overlap: int = DEFAULT_OVERLAP,
    count: Count = approximate_tokens,
    embedder: Embedder | None = None,
) -> list[Chunk]:
    """Chunks in the order of the text, none larger than its size by ``count``.

    Give ``ChunkSettings``, or a size and an overlap to cut recursively. A document without text,
    or of white space only, has no chunks. Raises ``ConfigurationError`` for values out of range
    and where ``semantic`` is given no embedder, ``CapacityError`` where ``count`` finds a single
    character larger than the size (``approximate_tokens`` never does).
    """
    settings = (
        size if isinstance(size, ChunkSettings) else ChunkSettings("recursive", size, overlap)
    )
    return list(iter_chunks(document, settings, count=count, embedder=embedder))


def iter_chunks(
    document: Document,
    settings: ChunkSettings,
    *,
    count: Count = approximate_tokens,
    embedder: Embedder | None = None,
) -> Iterator[Chunk]:
    """:func:`chunk_document` one chunk at a time, for texts of any length."""
    if settings.strategy == "parent-child":
        for path, child, parent in parent_child_spans(
            document, settings.size, settings.overlap, settings.parent_size, count
        ):
            yield _chunk(document, path, child, {PARENT: f"{parent[0]}-{parent[1]}"})
        return
    for path, span in _spans(document, settings, count, embedder):
        yield _chunk(document, path, span)


def _spans(
    document: Document, settings: ChunkSettings, count: Count, embedder: Embedder | None
) -> Iterator[Part]:
    size, overlap = settings.size, settings.overlap
    if settings.strategy == "fixed":
        return fixed_spans(document, size, overlap, count)
    if settings.strategy == "structure":
        return structure_spans(document, size, overlap, count)
    if settings.strategy == "sentence":
        return sentence_spans(document, size, settings.sentences, settings.sentence_overlap, count)
    if settings.strategy == "semantic":
        from llmwright.retrieval.chunking.semantic import semantic_spans

        if embedder is None:
            raise ConfigurationError(
                "semantic chunks need an embedder", where="chunking", fix="give embedder="
            )
        return semantic_spans(document, settings, count, embedder.embed)
    return recursive_spans(document, size, overlap, count)  # and late


def _chunk(
    document: Document, path: tuple[str, ...], span: Span, more: dict[str, str] | None = None
) -> Chunk:
    start, end = span
    return Chunk(
        id=f"{document.id}:{start}-{end}",
        document_id=document.id,
        text=document.text[start:end],
        start=start,
        end=end,
        heading=" > ".join(path),
        language=document.language,
        metadata={**document.metadata, **more} if more else document.metadata,
    )
