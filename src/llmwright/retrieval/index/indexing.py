"""From documents to what a segment is made of: language, chunks, vectors.

Both retrievers read a chunk together with its document's title and its path of headings. A
second passage of an article says little about its subject; the title says it, and weighs as much
as once more in the text, where a heading usually stands as well.

Documents are taken as they come and given on in batches of about 16,000 chunks, so that neither
a large corpus nor a large document is held whole with its vectors.

Cost: embedding dominates; chunks in a language the embedder does not know are not embedded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmwright.core import Chunk, ConfigurationError, Document, Embedder
from llmwright.data import detect_language, scripts
from llmwright.retrieval.chunking import ChunkSettings, iter_chunks
from llmwright.retrieval.chunking.contextual import CONTEXT
from llmwright.retrieval.dense.cosine import knows
from llmwright.retrieval.index.segment import Batch

BATCH = 1 << 14
"""Chunks embedded and written at once."""

_BATCH_CHARACTERS = 1 << 25

Contexts = Callable[[Document, Sequence[Chunk]], Sequence[Chunk]]
"""Gives a document's chunks with a sentence of context each (``ContextWriter``)."""


@dataclass(slots=True)
class _Taken:
    """What will be a batch. ``texts``: what the retrievers read of each chunk; ``sources``: the
    document of each."""

    documents: list[tuple[Document, str, str]] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    sources: list[Document] = field(default_factory=list)
    characters: int = 0


def prepare(
    documents: Iterable[tuple[Document, str]],
    embedder: Embedder,
    settings: ChunkSettings,
    contexts: Contexts | None = None,
) -> Iterator[Batch]:
    """Batches of documents given with their hashes; a document's chunks may lie in several, it
    itself in the first of them."""
    taken = _Taken()
    for document, digest in documents:
        language = _language(document)
        taken.documents.append((document, language, digest))
        whole = replace(document, language=language)
        chunks: Iterable[Chunk] = iter_chunks(whole, settings, embedder=embedder)
        if contexts is not None:
            chunks = contexts(whole, list(chunks))
        for chunk in chunks:
            context = chunk.metadata.get(CONTEXT, "") if contexts is not None else ""
            parts = (document.title, chunk.heading, context, chunk.text)
            taken.chunks.append(replace(chunk, language=_chunk_language(chunk)))
            taken.texts.append("\n".join(filter(None, parts)))
            taken.sources.append(document)
            taken.characters += len(taken.texts[-1])
            if len(taken.chunks) == BATCH or taken.characters > _BATCH_CHARACTERS:
                yield _embedded(taken, embedder, settings)
                taken = _Taken()
    if taken.documents or taken.chunks:
        yield _embedded(taken, embedder, settings)


def check_late(embedder: Embedder, settings: ChunkSettings) -> Any:
    """The embedder's ``embed_spans``. Raises ``ConfigurationError`` where late chunks are wanted
    and it has none."""
    embed_spans = getattr(embedder, "embed_spans", None)
    if settings.strategy == "late" and embed_spans is None:
        raise ConfigurationError(
            "late chunks need the vectors of tokens, which this embedder does not give",
            where=embedder.name,
            fix="use a local encoder, or another way of cutting",
        )
    return embed_spans


def _embedded(taken: _Taken, embedder: Embedder, settings: ChunkSettings) -> Batch:
    known = frozenset(embedder.languages) if embedder.languages is not None else None
    votes = np.array([knows(known, chunk.language) for chunk in taken.chunks], np.bool_)
    voting = np.flatnonzero(votes).tolist()
    vectors = np.zeros((0, embedder.dimension), np.float32)
    if voting and settings.strategy == "late":
        vectors = np.concatenate(list(_late(taken, voting, check_late(embedder, settings))))
    elif voting:
        vectors = embedder.embed([taken.texts[i] for i in voting])
    vectors = np.asarray(vectors, np.float32)  # [voting, dimension]
    return Batch(taken.documents, taken.chunks, taken.texts, votes, vectors)


def _late(taken: _Taken, voting: list[int], embed_spans: Any) -> Iterator[NDArray[np.float32]]:
    """Vectors of the voting chunks, each document's read together."""
    for _, group in groupby(voting, key=lambda i: id(taken.sources[i])):
        own = list(group)
        document = taken.sources[own[0]]
        spans = [(taken.chunks[i].start, taken.chunks[i].end) for i in own]
        yield embed_spans(document.text, spans, context=document.title)


def _language(document: Document) -> str:
    """ISO 639-1, as given (``en-US`` is ``en``) or detected."""
    given = document.language.strip().lower().replace("_", "-").partition("-")[0]
    return given or detect_language(document.text)


def _chunk_language(chunk: Chunk) -> str:
    """The document's language, unless the passage is written in another script."""
    if not chunk.language:
        return detect_language(chunk.text)
    if chunk.text.isascii():  # at home in every language: nothing to look for
        return chunk.language
    if detect_language(chunk.text, among={chunk.language}) == chunk.language:
        return chunk.language
    return detect_language(chunk.text) if scripts(chunk.text) else chunk.language
