"""One search: each retriever ranks the allowed rows, and the rankings are fused.

Nothing here reads texts; a row is a number, in the order of chunk ids, so that equal scores are
ordered by id. Filters are applied before ranking: a retriever never sees a row that is not
allowed, and a strict filter does not shorten the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llmwright.core import Embedder
from llmwright.data import detect_language
from llmwright.retrieval.analysis import analyze_query
from llmwright.retrieval.dense import ann_search, cosines, knows
from llmwright.retrieval.fusion import best_rows, reciprocal_rank_fusion
from llmwright.retrieval.store import Snapshot

DEPTH = 100
"""Candidates each retriever gives to the fusion, at least."""

_BLOCK = 256  # queries scored by one matrix product

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
    ) -> list[Ranked]:
        """``embedder`` is called only if a query gets dense votes."""
        rows = self._snapshot.state.chunks
        mask = np.ones(rows, np.bool_) if allowed is None else np.array(allowed, np.bool_)
        depth = top if mode != "hybrid" else max(DEPTH, top)
        rankings: list[dict[str, list[tuple[int, float]]]] = [{} for _ in queries]
        if mode != "dense":
            for query, ranking in zip(queries, rankings, strict=True):
                ranking["lexical"] = self._lexical(query, mask, depth)
        if mode != "lexical":
            asking = [i for i, query in enumerate(queries) if self._votes_on(query)]
            if asking and (mask & self._votes).any():
                texts = [queries[i] for i in asking]
                for i, found in zip(
                    asking,
                    self._dense(texts, mask, depth, allowed is None, embedder()),
                    strict=True,
                ):
                    rankings[i]["dense"] = found
        return [_fuse(ranking, top) for ranking in rankings]

    def _votes_on(self, query: str) -> bool:
        """Whether the embedder knows the language of the query."""
        if not query.strip():
            return False
        return knows(self._known, detect_language(query, among=self._languages))

    def _lexical(self, query: str, mask: NDArray[np.bool_], depth: int) -> list[tuple[int, float]]:
        positions = analyze_query(query, self._languages)
        if self._snapshot.bm25 is None or not positions:
            return []
        scores = self._snapshot.bm25.score(positions)
        return [(int(r), float(scores[r])) for r in best_rows(scores, mask & (scores > 0), depth)]

    def _dense(
        self,
        queries: list[str],
        mask: NDArray[np.bool_],
        depth: int,
        unfiltered: bool,
        embedder: Embedder,
    ) -> list[list[tuple[int, float]]]:
        vectors = np.asarray(embedder.embed(queries, kind="query"), np.float32)  # [queries, dim]
        if self._snapshot.state.ann and unfiltered:
            chunks, rows = self._snapshot.chunks, self._row_of
            return [[(rows[i], s) for i, s in ann_search(chunks, v, depth)] for v in vectors]
        mask = mask & self._votes
        results = []
        for begin in range(0, len(queries), _BLOCK):
            block = cosines(vectors[begin : begin + _BLOCK], self._vectors)  # [block, rows]
            for scores in block:
                best = best_rows(scores, mask, depth)
                results.append([(int(row), float(scores[row])) for row in best])
        return results

    @cached_property
    def _votes(self) -> NDArray[np.bool_]:
        return self._snapshot.votes

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:  # [rows, dimension]
        column = self._snapshot.table(["vector"])["vector"].combine_chunks()
        flat: NDArray[np.float32] = column.flatten().to_numpy()
        return flat.reshape(self._snapshot.state.chunks, -1)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {identity: row for row, identity in enumerate(self._snapshot.ids)}


def _fuse(rankings: dict[str, list[tuple[int, float]]], top: int) -> Ranked:
    """A single ranking keeps its scores; two are fused."""
    places: dict[int, dict[str, int]] = {}
    for name, ranking in rankings.items():
        for rank, (row, _) in enumerate(ranking, start=1):
            places.setdefault(row, {})[name] = rank
    if len(rankings) == 1:
        [scored] = rankings.values()
    else:
        scored = reciprocal_rank_fusion([[row for row, _ in r] for r in rankings.values()])
    return [(row, score, places[row]) for row, score in scored[:top]]
