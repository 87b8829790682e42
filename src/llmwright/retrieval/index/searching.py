"""One search: each retriever ranks the allowed rows, and the rankings are fused.

Nothing here reads texts; a row is a number (``snapshot``). Equal scores are ordered by the ids of
the chunks, in every ranking and in the fusion. Filters are applied before ranking: a retriever
never sees a row that is not allowed, and a strict filter does not shorten the result.

A hybrid search is two rounds: both retrievers rank, their rankings are fused, both rank again
with the best passages as feedback, and all four rankings are fused. BM25 is linear in the weights
of the query, so its second round adds ten terms to the scores of its first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from llmwright.core import Embedder
from llmwright.data import detect_language
from llmwright.retrieval.dense.cosine import knows
from llmwright.retrieval.dense.search import dense_search, vectors_of
from llmwright.retrieval.index.segment import Mask
from llmwright.retrieval.index.snapshot import Scored, Snapshot
from llmwright.retrieval.lexical.terms import query_terms
from llmwright.retrieval.ranking import feedback
from llmwright.retrieval.ranking.fusion import DEFAULT_FUSION, Fusion

DEPTH = 100
"""Candidates each retriever gives to the fusion, at least."""

_SCORES = 1 << 24  # of the queries that are answered together: 64 MB

Ranked = list[tuple[int, float, dict[str, int]]]
"""Row, score, and the rank each retriever gave it."""

Vectors = dict[int, NDArray[np.float32]]


class Searcher:
    """Ranks the rows of one snapshot. Safe to use from many threads."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._languages = sorted(snapshot.state.languages)
        known = snapshot.state.embedder["languages"]
        self._known = frozenset(known) if known is not None else None

    def search(
        self,
        queries: Sequence[str],
        top: int,
        mode: str,
        allowed: Mask | None,
        embedder: Callable[[], Embedder],
        fusion: Fusion = DEFAULT_FUSION,
    ) -> list[Ranked]:
        """``embedder`` is called only if a query gets dense votes."""
        rankings = self.rankings(queries, top, mode, allowed, embedder, fusion)
        if mode != "hybrid":
            return [_single(ranking, top) for ranking in rankings]
        return [_ranked(self._fused(ranking, fusion)[:top], ranking) for ranking in rankings]

    def rankings(
        self,
        queries: Sequence[str],
        top: int,
        mode: str,
        allowed: Mask | None,
        embedder: Callable[[], Embedder],
        fusion: Fusion = DEFAULT_FUSION,
    ) -> Iterator[dict[str, Scored]]:
        """What each retriever found, by its name, before the fusion: what weights are learned
        from. ``fusion`` chooses the passages that are fed back."""
        # Half of a surrogate pair is no character; a tokenizer would refuse the whole query.
        queries = [query.encode(errors="replace").decode() for query in queries]
        depth = top if mode != "hybrid" else max(DEPTH, top)
        together = max(1, _SCORES // max(self.snapshot.rows, 1))
        for begin in range(0, len(queries), together):
            part = queries[begin : begin + together]
            rankings: list[dict[str, Scored]] = [{} for _ in part]
            scores: list[tuple[float, NDArray[np.float32]]] = []
            if mode != "dense":
                scores = [self._lexical(query) for query in part]
                for (_, found), ranking in zip(scores, rankings, strict=True):
                    ranking["lexical"] = self._best(found, depth, allowed)
            vectors: Vectors = {}
            if mode != "lexical" and (allowed is None or allowed.any()):
                vectors = self._embedded(part, embedder)
                for i, near in self._dense(vectors, allowed, depth):
                    rankings[i]["dense"] = near
            if mode == "hybrid":
                self._feed_back(rankings, scores, vectors, allowed, depth, fusion)
            yield from rankings

    def _feed_back(
        self,
        rankings: Sequence[dict[str, Scored]],
        scores: Sequence[tuple[float, NDArray[np.float32]]],
        vectors: Vectors,
        allowed: Mask | None,
        depth: int,
        fusion: Fusion,
    ) -> None:
        """Add each retriever's second ranking."""
        bm25 = self.snapshot.bm25
        moved: Vectors = {}
        for i, (ranking, (total, found)) in enumerate(zip(rankings, scores, strict=True)):
            rows = [row for row, _ in self._fused(ranking, fusion)[: feedback.PASSAGES]]
            more = feedback.telling_stems(bm25, rows)
            if total and more:
                bm25.score(more, found, (1 - feedback.LAMBDA) / total)
            ranking["lexical feedback"] = self._best(found, depth, allowed)
            if i in vectors:
                passages = vectors_of(self.snapshot.dense, rows)
                near = [passages[row] for row in rows if row in passages]
                moved[i] = feedback.expand_vector(vectors[i], np.array(near, np.float32))
        for i, near_moved in self._dense(moved, allowed, depth):
            rankings[i]["dense feedback"] = near_moved

    def _lexical(self, query: str) -> tuple[float, NDArray[np.float32]]:
        """The sum of the weights of a query's terms, and BM25's scores [rows]."""
        weights = query_terms(query, self._languages)
        return sum(weights.values()), self.snapshot.bm25.score(weights)

    def _best(self, scores: NDArray[np.float32], depth: int, allowed: Mask | None) -> Scored:
        return self.snapshot.ordered(*self.snapshot.bm25.best(scores, depth, allowed), depth)

    def _embedded(self, queries: Sequence[str], embedder: Callable[[], Embedder]) -> Vectors:
        """Vectors of those queries that get dense votes, by number."""
        if not any(segment.voting for segment in self.snapshot.dense):
            return {}
        asking = [i for i, query in enumerate(queries) if self._votes_on(query)]
        if not asking:
            return {}
        embedded = embedder().embed([queries[i] for i in asking], kind="query")
        return dict(zip(asking, np.asarray(embedded, np.float32), strict=True))

    def _votes_on(self, query: str) -> bool:
        """Whether the embedder knows the language of the query."""
        if not query.strip():
            return False
        return knows(self._known, detect_language(query, among=self._languages))

    def _dense(
        self, queries: Vectors, allowed: Mask | None, depth: int
    ) -> Iterator[tuple[int, Scored]]:
        if queries:
            snapshot = self.snapshot
            found = dense_search(
                snapshot.dense,
                np.stack(list(queries.values())),
                depth,
                snapshot.live if allowed is None else allowed,
                ann_from=snapshot.state.ann_from,
                ordered=snapshot.ordered,
            )
            yield from zip(queries, found, strict=True)

    def _fused(self, rankings: Mapping[str, Scored], fusion: Fusion) -> Scored:
        """The fusion orders equal scores by number, so rows are numbered by their ids."""
        if self.snapshot.sorted:
            return fusion(rankings)
        found = {row for ranking in rankings.values() for row, _ in ranking}
        rows = sorted(found, key=self.snapshot.chunk_id)
        numbers = {row: number for number, row in enumerate(rows)}
        by_number = {
            name: [(numbers[row], score) for row, score in ranking]
            for name, ranking in rankings.items()
        }
        return [(rows[number], score) for number, score in fusion(by_number)]


def _single(rankings: dict[str, Scored], top: int) -> Ranked:
    """One retriever's ranking keeps its scores."""
    scored = next(iter(rankings.values()), [])
    return _ranked(scored[:top], rankings)


def _ranked(scored: Scored, rankings: dict[str, Scored]) -> Ranked:
    places: dict[int, dict[str, int]] = {row: {} for row, _ in scored}
    for name, ranking in rankings.items():
        for rank, (row, _) in enumerate(ranking, start=1):
            if row in places:
                places[row][name] = rank
    return [(row, score, places[row]) for row, score in scored]
