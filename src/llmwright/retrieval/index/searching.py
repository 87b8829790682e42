"""One search: each retriever ranks the allowed rows, and the rankings are fused.

Nothing here reads texts; a row is a number, in the order of chunk ids, so that equal scores are
ordered by id. Filters are applied before ranking: a retriever never sees a row that is not
allowed, and a strict filter does not shorten the result.

A hybrid search is two rounds: both retrievers rank, their rankings are fused, both rank again
with the best passages as feedback, and all four rankings are fused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llmwright.core import Embedder
from llmwright.data import detect_language
from llmwright.retrieval.dense.cosine import ann_search, cosines, knows
from llmwright.retrieval.index.store import Snapshot
from llmwright.retrieval.lexical.bm25 import query_terms
from llmwright.retrieval.ranking import feedback
from llmwright.retrieval.ranking.fusion import DEFAULT_FUSION, Fusion, best_rows

DEPTH = 100
"""Candidates each retriever gives to the fusion, at least."""

_BLOCK = 256  # queries scored by one matrix product

Scored = list[tuple[int, float]]
"""Rows with scores, best first."""

Ranked = list[tuple[int, float, dict[str, int]]]
"""Row, score, and the rank each retriever gave it."""


class Searcher:
    """Ranks the rows of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._languages = sorted(snapshot.state.languages or {})
        known = snapshot.state.embedder["languages"]
        self._known = frozenset(known) if known is not None else None

    def search(
        self,
        queries: Sequence[str],
        top: int,
        mode: str,
        allowed: Sequence[bool] | None,
        embedder: Callable[[], Embedder],
        fusion: Fusion = DEFAULT_FUSION,
    ) -> list[Ranked]:
        """``embedder`` is called only if a query gets dense votes."""
        rankings = self.rankings(queries, top, mode, allowed, embedder, fusion)
        if mode != "hybrid":
            return [_single(ranking, top) for ranking in rankings]
        return [_ranked(fusion(ranking)[:top], ranking) for ranking in rankings]

    def rankings(
        self,
        queries: Sequence[str],
        top: int,
        mode: str,
        allowed: Sequence[bool] | None,
        embedder: Callable[[], Embedder],
        fusion: Fusion = DEFAULT_FUSION,
    ) -> list[dict[str, Scored]]:
        """What each retriever found, by its name, before the fusion: what weights are learned
        from. ``fusion`` chooses the passages that are fed back."""
        # Half of a surrogate pair is no character; a tokenizer would refuse the whole query.
        queries = [query.encode(errors="replace").decode() for query in queries]
        count = self._snapshot.state.chunks
        mask = np.ones(count, np.bool_) if allowed is None else np.array(allowed, np.bool_)
        exact = not self._snapshot.state.ann or allowed is not None
        depth = top if mode != "hybrid" else max(DEPTH, top)
        rankings: list[dict[str, Scored]] = [{} for _ in queries]
        terms: list[dict[int, float]] = []
        if mode != "dense":
            terms = [query_terms(query, self._languages) for query in queries]
            for weights, ranking in zip(terms, rankings, strict=True):
                ranking["lexical"] = self._lexical(weights, mask, depth)
        vectors: dict[int, NDArray[np.float32]] = {}
        if mode != "lexical" and (mask & self._snapshot.votes).any():
            asking = [i for i, query in enumerate(queries) if self._votes_on(query)]
            if asking:
                embedded = embedder().embed([queries[i] for i in asking], kind="query")
                vectors = dict(zip(asking, np.asarray(embedded, np.float32), strict=True))
        for i, found in self._dense(vectors, mask, depth, exact).items():
            rankings[i]["dense"] = found
        if mode != "hybrid":
            return rankings
        first = [[row for row, _ in fusion(ranking)[: feedback.PASSAGES]] for ranking in rankings]
        voting = {row for i in vectors for row in first[i] if self._snapshot.votes[row]}
        passages = self._vectors_of(sorted(voting), exact)
        moved = {}
        for i, rows in enumerate(first):
            weights = feedback.expand_terms(terms[i], self._snapshot.bm25, rows)
            rankings[i]["lexical feedback"] = self._lexical(weights, mask, depth)
            if i in vectors:
                near = [passages[row] for row in rows if row in passages]
                moved[i] = feedback.expand_vector(vectors[i], np.array(near, np.float32))
        for i, found in self._dense(moved, mask, depth, exact).items():
            rankings[i]["dense feedback"] = found
        return rankings

    def _votes_on(self, query: str) -> bool:
        """Whether the embedder knows the language of the query."""
        if not query.strip():
            return False
        return knows(self._known, detect_language(query, among=self._languages))

    def _lexical(self, query: dict[int, float], mask: NDArray[np.bool_], depth: int) -> Scored:
        scores = self._snapshot.bm25.score(query)
        return [(int(r), float(scores[r])) for r in best_rows(scores, mask & (scores > 0), depth)]

    def _dense(
        self,
        queries: dict[int, NDArray[np.float32]],
        mask: NDArray[np.bool_],
        depth: int,
        exact: bool,
    ) -> dict[int, Scored]:
        if not exact:
            chunks, row_of = self._snapshot.chunks, self._snapshot.row_of
            return {
                i: [(row_of[identity], score) for identity, score in ann_search(chunks, v, depth)]
                for i, v in queries.items()
            }
        mask, numbers, results = mask & self._snapshot.votes, list(queries), {}
        for begin in range(0, len(numbers), _BLOCK):
            part = numbers[begin : begin + _BLOCK]
            block = cosines(np.stack([queries[i] for i in part]), self._vectors)  # [part, rows]
            for i, scores in zip(part, block, strict=True):
                best = best_rows(scores, mask, depth)
                results[i] = [(int(row), float(scores[row])) for row in best]
        return results

    def _vectors_of(self, rows: list[int], exact: bool) -> dict[int, NDArray[np.float32]]:
        if exact:
            return {row: self._vectors[row] for row in rows}
        records = self._snapshot.records(rows, ["vector"]) if rows else []
        return {
            row: np.array(record["vector"], np.float32)
            for row, record in zip(rows, records, strict=True)
        }

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:  # [rows, dimension]
        column = self._snapshot.table(["vector"])["vector"].combine_chunks()
        flat: NDArray[np.float32] = column.flatten().to_numpy()
        return flat.reshape(self._snapshot.state.chunks, -1)


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
