"""Maximal marginal relevance: hits that are relevant and do not say what was already said.

One after another is chosen

    argmax over d left of   balance * rel(d)  -  (1 - balance) * max over c chosen of sim(d, c)

Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering documents and
producing summaries", SIGIR 1998, with their lambda called ``balance``. There the relevance is the
similarity to the query; here it is the hit's score over the best hit's, so that what a hybrid
search or a reranker knows is kept, and balance 1 changes nothing. Similarity is the cosine of two
hits' vectors, or, where no embedder is at hand, the share of terms they have in common:

    sim(a, b) = |T_a & T_b| / sqrt(|T_a| |T_b|)

Costs one embedding a hit (or its analysis) and hits squared / 2 similarities; a few dozen hits
are what it is for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmwright.core import ConfigurationError, Embedder, Hit
from llmwright.retrieval.lexical.analysis import analyze

BALANCE = 0.7


def maximal_marginal_relevance(
    hits: Sequence[Hit],
    top: int,
    *,
    balance: float = BALANCE,
    embedder: Embedder | None = None,
) -> list[Hit]:
    """The ``top`` hits in the order of their choice; each keeps its score.

    ``balance`` 1 looks at relevance alone, 0 at difference alone. Raises ``ConfigurationError``
    for one outside [0, 1].
    """
    if not 0 <= balance <= 1:
        raise ConfigurationError(
            f"balance is {balance}", where="maximal marginal relevance", fix="give 0 to 1"
        )
    if not hits:
        return []
    scores = np.array([hit.score for hit in hits], np.float64)
    relevance = scores / (np.abs(scores).max() or 1.0)  # [hits]
    similar = cosines_of(hits, embedder) if embedder is not None else overlaps(hits)
    return [hits[row] for row in marginal_order(relevance, similar, top, balance)]


def marginal_order(
    relevance: NDArray[np.float64], similar: NDArray[np.float64], top: int, balance: float
) -> list[int]:
    """Rows in the order of their choice; of equally good ones the first.

    ``relevance`` [rows], ``similar`` [rows, rows].
    """
    nearest = np.full(len(relevance), 0.0)  # to what was chosen; the first has nothing beside it
    left = np.ones(len(relevance), np.bool_)
    order: list[int] = []
    while left.any() and len(order) < top:
        gain = np.where(left, balance * relevance - (1 - balance) * nearest, -np.inf)
        row = int(np.argmax(gain))
        nearest = similar[row] if not order else np.maximum(nearest, similar[row])
        order.append(row)
        left[row] = False
    return order


def cosines_of(hits: Sequence[Hit], embedder: Embedder) -> NDArray[np.float64]:  # [hits, hits]
    """Cosines between the hits' vectors."""
    vectors = embedder.embed([hit.chunk.text for hit in hits]).astype(np.float64)
    return np.asarray(vectors @ vectors.T, np.float64)


def overlaps(hits: Sequence[Hit]) -> NDArray[np.float64]:  # [hits, hits]
    """Terms in common, as the cosine of two sets; a hit without a term is like no other."""
    terms = [set(analyze(hit.chunk.text, hit.chunk.language)) for hit in hits]
    number = {term: i for i, term in enumerate(sorted(set().union(*terms)))}
    holds = np.zeros((len(hits), len(number)))
    for row, found in enumerate(terms):
        holds[row, [number[term] for term in found]] = 1.0
    length = np.sqrt(holds.sum(axis=1)) + 1e-300
    return np.asarray((holds @ holds.T) / length / length[:, None], np.float64)
