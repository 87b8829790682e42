"""Ask in several ways, and let the question itself keep the decisive vote.

    score(d) = 1 / (k + rank_0(d))  +  sum over i of  (vote / n) / (k + rank_i(d))

where rank_0 is the question's own ranking and rank_i that of the i-th of n rewritings: paraphrases
(RAG-Fusion: Rackauckas 2024, arXiv 2402.03367), hypothetical answers (``hyde``), sub-questions, a
step back (``rewriting``), or clauses cut out without a model (``splitting``). All rewritings
together weigh ``vote``, at most 1: what only they find never passes the question's own first hit,
so a model that answers nonsense costs places but does not lose the answer.

Paraphrases ask for the same passages, so their votes are averaged, as above. Parts of a question
ask for different ones, each of which only one part may find: with ``parts=True`` their hits are
taken in turn, the first of each, then the second of each, as one ranking that weighs ``vote``.

    search = expanded(index.search, paraphrases(model))
    search = expanded(index.search, clauses, parts=True)

Costs the rewriting and one search for each that differs from the question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from llmwright.core import ConfigurationError, Hit, Search
from llmwright.retrieval.ranking.fusion import FUSION_K, Fusion

VOTE = 1.0
DEPTH = 50

Rewrite = Callable[[str], Sequence[str]]
"""From a question, other queries for it; none where it has nothing to say."""


def expanded(
    search: Search,
    rewrite: Rewrite,
    *,
    vote: float = VOTE,
    parts: bool = False,
    depth: int = DEPTH,
) -> Search:
    """``search``, asked also with what ``rewrite`` makes of the query.

    Each asks for ``depth`` hits (or ``top``, if more), which are then fused; ``Hit.ranks`` says
    who put it where ("question", "rewriting 1", ..., or "parts") and the score is the fused one.
    A query that gets no rewriting is searched as it is. Raises ``ConfigurationError`` for a
    ``vote`` outside (0, 1].
    """
    if not 0 < vote <= 1:
        raise ConfigurationError(
            f"vote is {vote}", where="query expansion", fix="give more than 0, up to 1"
        )

    def asked(query: str, top: int) -> Sequence[Hit]:
        others = distinct(rewrite(query), besides=query)
        if not others:
            return search(query, top)
        found = {"question": search(query, max(top, depth))}
        rewritings = [search(other, max(top, depth)) for other in others]
        if parts:
            found["parts"] = in_turn(rewritings)
        else:
            found |= {f"rewriting {n}": hits for n, hits in enumerate(rewritings, start=1)}
        share = vote / (len(found) - 1)
        weights = dict.fromkeys(found, share) | {"question": 1.0}
        return fuse_hits(found, Fusion(k=FUSION_K, weights=weights))[:top]

    return asked


def in_turn(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """The first hit of each ranking, then the second of each, each chunk once."""
    longest = max(map(len, rankings), default=0)
    hits = (ranking[n] for n in range(longest) for ranking in rankings if n < len(ranking))
    seen: dict[str, Hit] = {}
    for hit in hits:
        seen.setdefault(hit.chunk.id, hit)
    return list(seen.values())


def fuse_hits(found: Mapping[str, Sequence[Hit]], fusion: Fusion) -> list[Hit]:
    """Hits of several searches as one ranking; of equal scores, the first search's first."""
    hits = {hit.chunk.id: hit for ranking in reversed(list(found.values())) for hit in ranking}
    order = list(dict.fromkeys(hit.chunk.id for ranking in found.values() for hit in ranking))
    place = {identity: n for n, identity in enumerate(order)}
    rankings = {
        name: [(place[hit.chunk.id], hit.score) for hit in ranking]
        for name, ranking in found.items()
    }
    ranks: dict[str, dict[str, int]] = {identity: {} for identity in order}
    for name, ranking in found.items():
        for rank, hit in enumerate(ranking, start=1):
            ranks[hit.chunk.id].setdefault(name, rank)
    return [
        replace(hits[order[row]], score=score, ranks=ranks[order[row]])
        for row, score in fusion(rankings)
    ]


def distinct(queries: Sequence[str], besides: str) -> list[str]:
    """Queries in order, without those that say the same letters as one before, or nothing."""
    seen = {_letters(besides), ""}
    kept = []
    for query in queries:
        if _letters(query) not in seen:
            seen.add(_letters(query))
            kept.append(query)
    return kept


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())
