"""From documents to rows of the store: language, chunks, terms, vectors.

Both retrievers read a chunk together with its document's title and its path of headings. A
second passage of an article says little about its subject; the title says it, and weighs as much
as once more in the text, where a heading usually stands as well.

Cost: embedding dominates; chunks in a language the embedder does not know are not embedded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from llmwright.core import Chunk, Document, Embedder
from llmwright.data import detect_language, scripts
from llmwright.retrieval.chunking import chunk_document
from llmwright.retrieval.dense.cosine import knows
from llmwright.retrieval.index.records import document_row, to_json
from llmwright.retrieval.index.store import State, chunk_schema
from llmwright.retrieval.lexical.bm25 import passage_terms


def prepare(
    documents: Sequence[Document], embedder: Embedder | None, state: State
) -> tuple[list[dict[str, Any]], pa.Table]:
    """Rows of the tables ``documents`` and ``chunks``."""
    dimension = int(state.embedder["dimension"])
    chunks: list[Chunk] = []
    read: list[str] = []  # what the retrievers read of each chunk
    rows = []
    for document in documents:
        language = _language(document)
        rows.append(document_row(document, language))
        for chunk in chunk_document(
            replace(document, language=language), state.chunk_size, state.chunk_overlap
        ):
            chunks.append(replace(chunk, language=_chunk_language(chunk)))
            read.append("\n".join(filter(None, (document.title, chunk.heading, chunk.text))))
    known = frozenset(embedder.languages) if embedder and embedder.languages is not None else None
    votes = [knows(known, chunk.language) for chunk in chunks]
    vectors = np.zeros((len(chunks), dimension), np.float32)  # [chunks, dimension]
    if embedder is not None:
        voting = np.flatnonzero(votes)
        vectors[voting] = embedder.embed([read[i] for i in voting])
    terms = [passage_terms(text, c.language) for text, c in zip(read, chunks, strict=True)]
    lengths = np.cumsum([0, *map(len, terms)])
    flat = np.concatenate(terms) if terms else np.zeros(0, np.int64)
    columns = {
        name: [getattr(chunk, name) for chunk in chunks]
        for name in ("id", "document_id", "text", "heading", "language", "start", "end")
    }
    table = pa.table(
        {
            **columns,
            "metadata": [to_json(dict(chunk.metadata)) for chunk in chunks],
            "votes": votes,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dimension),
            "terms": pa.ListArray.from_arrays(pa.array(lengths, pa.int32()), pa.array(flat)),
        }
    )
    schema = chunk_schema(dimension)
    return rows, table.select(schema.names).cast(schema)


def _language(document: Document) -> str:
    """ISO 639-1, as given (``en-US`` is ``en``) or detected."""
    given = document.language.strip().lower().replace("_", "-").partition("-")[0]
    return given or detect_language(document.text)


def _chunk_language(chunk: Chunk) -> str:
    """The document's language, unless the passage is written in another script."""
    if chunk.language and detect_language(chunk.text, among={chunk.language}) == chunk.language:
        return chunk.language
    return detect_language(chunk.text) if scripts(chunk.text) else chunk.language
