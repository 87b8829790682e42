"""Keep a graph in step with an index: what is new or changed is read, what is gone is removed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmwright.core import Chunk, progress
from llmwright.retrieval.graph.store import EntityGraph

if TYPE_CHECKING:
    from llmwright.retrieval.index.index import Index


@dataclass(frozen=True, slots=True)
class Filled:
    """Ids of documents by what became of them."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


def fill_graph(graph: EntityGraph, index: Index) -> Filled:
    """Bring ``graph`` to hold the documents of ``index``, each in a transaction of its own, so
    that a run that was killed goes on where it ended. Costs a hash for each document that did
    not change."""
    chunks: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in index.chunks():
        chunks[chunk.document_id].append(chunk)
    filled = Filled()
    gone = sorted(set(graph.documents()) - chunks.keys())
    graph.delete(gone)
    filled.removed.extend(gone)
    with progress("reading names", total=len(chunks), unit="documents") as advance:
        for document in index.documents():
            if document.id in chunks:
                ordered = sorted(chunks[document.id], key=lambda chunk: (chunk.start, chunk.id))
                written = graph.upsert(document.id, ordered, document.title)
                (filled.written if written else filled.unchanged).append(document.id)
                advance(1)
    return filled
