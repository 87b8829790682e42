"""Search results by document, in the run format of TREC:

    query-id Q0 document-id rank score llmwright

which ``trec_eval``, ``pytrec_eval`` and ``ir_measures`` read. A document stands where its best
chunk stands. Scores are printed so that they strictly fall with the rank, since those tools sort
by score again and break ties in their own way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from llmwright.core import InputError, SearchMode
from llmwright.retrieval.index.index import Index
from llmwright.retrieval.ranking.fusion import DEFAULT_FUSION, Fusion

TAG = "llmwright"

Ranking = list[tuple[str, float]]
"""Document ids with scores, best first."""


def search_documents(
    index: Index,
    queries: Sequence[str],
    top: int = 100,
    mode: SearchMode = "hybrid",
    fusion: Fusion = DEFAULT_FUSION,
) -> list[Ranking]:
    """The ``top`` best documents for each query, a document by its best chunk."""
    rankings: list[Ranking] = [[] for _ in queries]
    chunks = int(index.stats()["chunks"])
    depth, missing = 2 * top, list(range(len(queries)))
    while missing:
        found = index.search_many([queries[i] for i in missing], depth, mode=mode, fusion=fusion)
        short = []
        for i, hits in zip(missing, found, strict=True):
            best: dict[str, float] = {}
            for hit in hits:
                best.setdefault(hit.chunk.document_id, hit.score)
            rankings[i] = list(best.items())[:top]
            # Ask deeper only where chunks were cut off, not where there were no more.
            if len(best) < top and len(hits) == depth < chunks:
                short.append(i)
        depth, missing = 4 * depth, short
    return rankings


def trec_lines(query_id: str, ranking: Ranking) -> Iterator[str]:
    """Lines of one query. Raises ``InputError`` for an id with white space in it."""
    above = math.inf
    for rank, (identity, score) in enumerate(ranking, start=1):
        for name in (query_id, identity):
            if not name or any(c.isspace() for c in name):
                raise InputError(
                    f"the id {name!r} cannot stand in a TREC run",
                    where=f"query {query_id}",
                    fix="use ids without white space, or --format jsonl",
                )
        # repr of a float loses nothing; the next lower one breaks a tie.
        above = score if score < above else math.nextafter(above, -math.inf)
        yield f"{query_id} Q0 {identity} {rank} {above!r} {TAG}"
