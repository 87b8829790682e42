"""Search small, give large: children are indexed, and hits are lifted to their parents.

A small chunk says one thing, so its vector and its words are about that; a large one gives the
model the text around it. The document is cut into parents (recursively, at ``parent_size``) and
each parent into children (at ``size``). A child remembers its parent's span, as ``parent`` in its
metadata ("1200-4810"), so the parent's text is a slice of the document and is stored nowhere twice.

Lifting takes a search and gives one. Hits of one parent become one hit, at the place, with the
score and the ranks of its best child; to find ``top`` parents more children are asked for, twice
as many each time, until there are enough or no more.

Cost: one deeper search, and the text of each document hit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from llmwright.core import Chunk, Document, Hit, Search
from llmwright.retrieval.chunking.packing import Packer
from llmwright.retrieval.chunking.recursive import recursive_spans, split_span
from llmwright.retrieval.chunking.spans import Count, Span

PARENT = "parent"
"""The field of a child's metadata that says where its parent stands."""


def parent_child_spans(
    document: Document, size: int, overlap: int, parent_size: int, count: Count
) -> Iterator[tuple[tuple[str, ...], Span, Span]]:
    """Children as spans, each with its path of headings before it and its parent behind it."""
    packer = Packer(document.text, size, overlap, count)
    for path, parent in recursive_spans(document, parent_size, 0, count):
        for child in split_span(packer, parent):
            yield path, child, parent


def parent_of(chunk: Chunk) -> Span | None:
    """The span of a child's parent; None where the chunk is no child."""
    start, dash, end = chunk.metadata.get(PARENT, "").partition("-")
    return (int(start), int(end)) if dash and start.isdecimal() and end.isdecimal() else None


def lift(hits: Sequence[Hit], text: Callable[[str], str]) -> list[Hit]:
    """Hits with each child in place of which its parent stands, once; ``text`` gives a document's
    text by its id. Hits that are no children stay as they are."""
    lifted: dict[tuple[str, Span], Hit] = {}
    for hit in hits:
        chunk, span = hit.chunk, parent_of(hit.chunk)
        start, end = span or (chunk.start, chunk.end)
        key = (chunk.document_id, (start, end))
        if key in lifted:
            continue
        if span is not None:
            chunk = replace(
                chunk,
                id=f"{chunk.document_id}:{start}-{end}",
                text=text(chunk.document_id)[start:end],
                start=start,
                end=end,
                metadata={k: v for k, v in chunk.metadata.items() if k != PARENT},
            )
        lifted[key] = replace(hit, chunk=chunk)
    return list(lifted.values())


def parent_search(search: Search, text: Callable[[str], str]) -> Search:
    """A search that gives parents, from one that finds children."""

    def parents(query: str, top: int) -> list[Hit]:
        depth = 2 * top
        while True:
            hits = search(query, depth)
            if len(_keys(hits)) >= top or len(hits) < depth:
                return lift(hits, text)[:top]
            depth *= 2

    return parents


def _keys(hits: Sequence[Hit]) -> set[tuple[str, Span]]:
    return {(h.chunk.document_id, parent_of(h.chunk) or (h.chunk.start, h.chunk.end)) for h in hits}
