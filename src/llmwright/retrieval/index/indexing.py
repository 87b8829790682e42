"""From documents to what a segment is made of: language, chunks, vectors.

Both retrievers read a chunk together with its document's title and its path of headings. A
second passage of an article says little about its subject; the title says it, and weighs as much
as once more in the text, where a heading usually stands as well.

Documents are taken as they come and given on in batches of about 16,000 chunks, so that neither
a large corpus nor a large document is held whole with its vectors.

Cost: embedding dominates; chunks in a language the embedder does not know are not embedded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from llmwright.core import Chunk, Document, Embedder
from llmwright.data import detect_language, scripts
from llmwright.retrieval.chunking import ChunkSettings, iter_chunks
from llmwright.retrieval.dense.cosine import knows
from llmwright.retrieval.index.segment import Batch

BATCH = 1 << 14
"""Chunks embedded and written at once."""

_BATCH_CHARACTERS = 1 << 25


def prepare(
    documents: Iterable[tuple[Document, str]], embedder: Embedder, settings: ChunkSettings
) -> Iterator[Batch]:
    """Batches of documents given with their hashes; a document's chunks may lie in several, it
    itself in the first of them."""
    taken: list[tuple[Document, str, str]] = []
    chunks: list[Chunk] = []
    texts: list[str] = []  # what the retrievers read of each chunk
    held = 0
    for document, digest in documents:
        language = _language(document)
        taken.append((document, language, digest))
        for chunk in iter_chunks(replace(document, language=language), settings, embedder=embedder):
            chunks.append(replace(chunk, language=_chunk_language(chunk)))
            texts.append("\n".join(filter(None, (document.title, chunk.heading, chunk.text))))
            held += len(texts[-1])
            if len(chunks) == BATCH or held > _BATCH_CHARACTERS:
                yield _embedded(taken, chunks, texts, embedder)
                taken, chunks, texts, held = [], [], [], 0
    if taken or chunks:
        yield _embedded(taken, chunks, texts, embedder)


def _embedded(
    documents: list[tuple[Document, str, str]],
    chunks: list[Chunk],
    texts: list[str],
    embedder: Embedder,
) -> Batch:
    known = frozenset(embedder.languages) if embedder.languages is not None else None
    votes = np.array([knows(known, chunk.language) for chunk in chunks], np.bool_)
    vectors = np.zeros((0, embedder.dimension), np.float32)
    if votes.any():
        wanted = [text for text, vote in zip(texts, votes, strict=True) if vote]
        vectors = np.asarray(embedder.embed(wanted), np.float32)  # [voting, dimension]
    return Batch(documents, chunks, texts, votes, vectors)


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
