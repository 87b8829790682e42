"""Hard negatives: documents that look right for a query and are not known to be.

For each pair the candidates are what a search ranks highest for its query. Those that any record
calls relevant to it are passed over, and so are those that a scorer puts too near to the positive:

    s(q, d) <= share * s(q, d+)        or        s(q, d) <= s(q, d+) - margin

for what looks as good as the right answer often is one, only nobody said so.

Karpukhin et al. (2020), "Dense Passage Retrieval", arXiv 2004.04906 (negatives by BM25); Moreira
et al. (2024), "NV-Retriever", arXiv 2407.15831 (bounds by the positive's score). Cost: one search
a query and, for the bound, vectors of the documents.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from llmwright.core import ConfigurationError, Embedder, progress
from llmwright.embeddings.training.pairs import Pair

Ranking = Callable[[str, int], Sequence[str]]
"""A query and how many -> texts of documents, best first."""


def mine_negatives(
    pairs: Sequence[Pair],
    ranking: Ranking,
    embedder: Embedder,
    *,
    count: int = 1,
    depth: int = 50,
    skip: int = 0,
    share: float | None = 0.95,
    margin: float | None = None,
) -> list[Pair]:
    """The pairs, each with up to ``count`` hard negatives after those it has.

    ``ranking`` gives candidates, by words or by vectors (``vector_ranking``); the first ``skip``
    of ``depth`` are passed over. ``embedder`` scores them for the bounds ``share`` and ``margin``,
    of which either may be None. A pair for which too few candidates are left gets fewer.

    Raises ``ConfigurationError`` for numbers that leave no candidate.
    """
    if count < 1 or not 0 <= skip < depth:
        raise ConfigurationError(
            f"count {count}, depth {depth}, skip {skip}",
            where="mining",
            fix="use a count of at least 1 and a depth above skip",
        )
    relevant: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        relevant[pair.query].add(pair.positive)
    found: dict[str, list[str]] = {}
    with progress("mining", total=len(relevant), unit="queries") as advance:
        for query in relevant:
            ranked = list(dict.fromkeys(ranking(query, depth)))[skip:depth]
            found[query] = [text for text in ranked if text not in relevant[query]]
            advance(1)
    vectors = _vectors(pairs, found, embedder) if share is not None or margin is not None else {}
    mined = []
    for pair in pairs:
        candidates = [text for text in found[pair.query] if text not in pair.negatives]
        if vectors:
            asked = vectors["query", pair.query]
            own = float(asked @ vectors["document", pair.positive])
            bound = min(
                np.inf if share is None else own - (1 - share) * abs(own),
                np.inf if margin is None else own - margin,
            )
            candidates = [d for d in candidates if float(asked @ vectors["document", d]) <= bound]
        mined.append(replace(pair, negatives=(*pair.negatives, *candidates[:count])))
    return mined


def _vectors(
    pairs: Sequence[Pair], found: Mapping[str, Sequence[str]], embedder: Embedder
) -> dict[tuple[str, str], NDArray[np.float32]]:
    documents = {text: None for texts in found.values() for text in texts}
    documents |= {pair.positive: None for pair in pairs}
    asked = embedder.embed(list(found), kind="query")
    embedded = embedder.embed(list(documents))
    vectors = {("query", query): asked[row] for row, query in enumerate(found)}
    vectors |= {("document", text): embedded[row] for row, text in enumerate(documents)}
    return vectors


def vector_ranking(embedder: Embedder, documents: Sequence[str]) -> Ranking:
    """Rank ``documents`` by the cosine of their vectors with the query's, all compared."""
    texts = list(dict.fromkeys(documents))
    vectors = embedder.embed(texts)  # [documents, dimension]

    def ranking(query: str, count: int) -> list[str]:
        scores = vectors @ embedder.embed([query], kind="query")[0]  # [documents]
        return [texts[place] for place in np.argsort(-scores, kind="stable")[:count]]

    return ranking
