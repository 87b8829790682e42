"""Chunks as hits by learned sparse weights or by late interaction, and their vote in a hybrid.

Both retrievers are built from chunks (``Index.chunks``) and an encoder, and search like an index:
``retriever.search(query, top, filter=...)``; the filter comes before the ranking. ``joined`` fuses
them, or any search, with the rankings of an index:

    sparse = SparseRetriever(index.chunks(), encoder)
    search = joined(index, {"sparse": sparse.search}, fusion)

``reranked`` lets late interaction order another search's shortlist. Texts are the heading and the
text, as the index reads them. Costs are those of ``inverted`` and ``late``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmwright.core import Chunk, Hit, Search
from llmwright.embeddings.sparse import SparseEncoder
from llmwright.retrieval.index.index import Index
from llmwright.retrieval.index.records import OWN_FIELDS, Filter
from llmwright.retrieval.ranking.fusion import DEFAULT_FUSION, Fusion
from llmwright.retrieval.sparse.inverted import InvertedIndex
from llmwright.retrieval.sparse.late import TokenVectorStore

DEPTH = 100


class TokenEncoder(Protocol):
    """Anything that gives the token vectors of texts, each [tokens, dimension]
    (``embeddings.late_interaction``)."""

    def documents(self, texts: Sequence[str]) -> list[NDArray[np.float32]]: ...

    def queries(self, texts: Sequence[str]) -> list[NDArray[np.float32]]: ...


class FilteredSearch(Protocol):
    """A search that takes a filter, as an index's and the retrievers' here do."""

    def __call__(
        self, query: str, top: int = ..., *, filter: Filter | None = ...
    ) -> Sequence[Hit]: ...


class SparseRetriever:
    """Learned sparse retrieval over some chunks."""

    def __init__(self, chunks: Iterable[Chunk], encoder: SparseEncoder) -> None:
        self._chunks = list(chunks)
        self._encoder = encoder
        self._index = InvertedIndex.build(encoder.encode([text_of(c) for c in self._chunks]))

    def search(self, query: str, top: int = 10, *, filter: Filter | None = None) -> list[Hit]:
        """The ``top`` chunks with the greatest product of weights; those that share no term
        with the query are not found."""
        terms, weights = self._encoder.encode([query]).row(0)
        found = self._index.search(terms, weights, top, _allowed(self._chunks, filter))
        return _hits(self._chunks, found, "sparse")


class LateRetriever:
    """Late interaction over some chunks."""

    def __init__(self, chunks: Iterable[Chunk], encoder: TokenEncoder) -> None:
        self._chunks = list(chunks)
        self._encoder = encoder
        self._row = {chunk.id: row for row, chunk in enumerate(self._chunks)}
        self.store = TokenVectorStore.build(encoder.documents([text_of(c) for c in self._chunks]))

    def search(self, query: str, top: int = 10, *, filter: Filter | None = None) -> list[Hit]:
        """The ``top`` chunks by MaxSim over all."""
        vectors = self._encoder.queries([query])[0]
        found = self.store.search(vectors, top, _allowed(self._chunks, filter))
        return _hits(self._chunks, found, "late")

    def reranked(self, search: Search, *, depth: int = DEPTH) -> Search:
        """``search`` with its ``depth`` best hits (or ``top``, if more) in the order of MaxSim.

        Hits that this retriever does not hold come last, in their order.
        """

        def ordered(query: str, top: int) -> Sequence[Hit]:
            hits = search(query, max(depth, top))
            known = [hit for hit in hits if hit.chunk.id in self._row]
            rows = np.array([self._row[hit.chunk.id] for hit in known], np.int64)
            scores = self.store.scores(self._encoder.queries([query])[0], rows)
            order = np.argsort(-scores, kind="stable")
            best = [
                replace(known[i], score=float(scores[i]), ranks={**known[i].ranks, "late": n})
                for n, i in enumerate(order.tolist(), start=1)
            ]
            return [*best, *(hit for hit in hits if hit.chunk.id not in self._row)][:top]

        return ordered


def joined(
    index: Index,
    further: Mapping[str, FilteredSearch],
    fusion: Fusion = DEFAULT_FUSION,
    *,
    filter: Filter | None = None,
    depth: int = DEPTH,
) -> Search:
    """The index's rankings (lexical, dense, feedback) and those of ``further`` searches, fused.

    ``fusion`` knows the further ones by their names here. The filter is each search's.
    """
    chunks = {chunk.id: chunk for chunk in index.chunks()}

    def search(query: str, top: int) -> Sequence[Hit]:
        deep = max(depth, top)
        rankings = dict(index.rankings([query], deep, filter=filter, fusion=fusion)[0])
        for name, other in further.items():
            hits = other(query, deep, filter=filter)
            rankings[name] = [(h.chunk.id, h.score) for h in hits if h.chunk.id in chunks]
        ranks: dict[str, dict[str, int]] = {}
        for name, ranking in rankings.items():
            for rank, (identity, _) in enumerate(ranking, start=1):
                ranks.setdefault(identity, {})[name] = rank
        best = fusion(rankings)[:top]
        return [Hit(chunks[identity], score, ranks[identity]) for identity, score in best]

    return search


def text_of(chunk: Chunk) -> str:
    """What of a chunk is encoded."""
    return f"{chunk.heading}\n{chunk.text}" if chunk.heading else chunk.text


def _allowed(chunks: Sequence[Chunk], filter: Filter | None) -> NDArray[np.bool_] | None:
    if filter is None:
        return None
    return np.array([accepts(filter, chunk) for chunk in chunks], np.bool_)


def accepts(filter: Filter, chunk: Chunk) -> bool:
    """Whether a filter lets a chunk through, as an index understands it."""
    if not isinstance(filter, Mapping):
        return filter(chunk)
    return all(
        chunk.metadata.get(key, getattr(chunk, key) if key in OWN_FIELDS else None) == value
        for key, value in filter.items()
    )


def _hits(chunks: Sequence[Chunk], found: Sequence[tuple[int, float]], name: str) -> list[Hit]:
    return [Hit(chunks[row], score, {name: n}) for n, (row, score) in enumerate(found, start=1)]
