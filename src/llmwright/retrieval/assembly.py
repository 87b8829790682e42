"""From settings to a search: the techniques of this room in the order in which they make sense.

    index ─ expand ─ neighbours ─ rerank ─ decay, duplicates, diversity ─ parents

Each step takes a ``Search`` and gives one, so anything here can also be put together by hand in
another order; this is the order that a recipe, a release and the commands use. Expansion comes
before reranking, which judges what any of the queries found; time and variety come after it, for
they work on scores; children become parents last, since small chunks are what was judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from llmwright.core import ChatModel, ConfigurationError, Hit, Search, SearchMode
from llmwright.retrieval.chunking.parents import parent_search
from llmwright.retrieval.index.index import Index
from llmwright.retrieval.index.records import Filter
from llmwright.retrieval.queries.expansion import Rewrite, expanded
from llmwright.retrieval.ranking.decay import time_decay
from llmwright.retrieval.ranking.diversity import maximal_marginal_relevance
from llmwright.retrieval.ranking.duplicates import drop_near_duplicates
from llmwright.retrieval.ranking.fusion import DEFAULT_FUSION, Fusion
from llmwright.retrieval.ranking.rearrange import rearranged
from llmwright.retrieval.rerank.neighbours import neighbour_reranker
from llmwright.retrieval.rerank.reranking import Reranker, interpolated, reranked

Expand = Literal["none", "clauses", "iterated", "paraphrases", "sub-questions", "step-back", "hyde"]
BY_MODEL = ("paraphrases", "sub-questions", "step-back", "hyde")
"""The expansions that ask a chat model."""

_UNDATED = 0.5  # what one half-life leaves


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How hits are found and ordered.

    ``expand`` asks the index in further ways. ``rerank_depth`` hits are judged again: by
    ``neighbours``, the share of its score that a hit takes from the hits most like it, and by a
    reranker, where there is one, whose vote against the first ranking is ``rerank_weight``, 0 to 1.
    ``half_life``, in days, halves the score of a hit so much older; hits without a
    ``date`` in their metadata count as one half-life old. ``duplicates`` drops a hit whose runs of
    three words stand, to this share, in a better one. ``diversity`` is what likeness to better
    hits costs, from 0 (nothing) below 1. 0 switches each of them off.

    Raises ``ConfigurationError`` for a value out of its range.
    """

    mode: SearchMode = "hybrid"
    fusion: Fusion = DEFAULT_FUSION
    expand: Expand = "none"
    neighbours: float = 0.0
    rerank_depth: int = 50
    rerank_weight: float = 1.0
    half_life: float = 0.0
    duplicates: float = 0.0
    diversity: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in (("mode", get_args(SearchMode)), ("expand", get_args(Expand))):
            if (value := getattr(self, name)) not in allowed:
                raise ConfigurationError(
                    f"{name} is {value!r}", where="search", fix=f"use one of {', '.join(allowed)}"
                )
        for name, most in (
            ("neighbours", 1.0),
            ("rerank_weight", 1.0),
            ("duplicates", 1.0),
            ("diversity", 0.999),
            ("half_life", 1e6),
        ):
            if not 0 <= (value := getattr(self, name)) <= most:
                raise ConfigurationError(
                    f"{name} is {value}", where="search", fix=f"give 0 to {most:g}"
                )
        if self.rerank_depth < 1:
            raise ConfigurationError(
                f"rerank_depth is {self.rerank_depth}", where="search", fix="give 1 or more"
            )


def make_search(
    index: Index,
    settings: SearchSettings | None = None,
    *,
    reranker: Reranker | None = None,
    model: ChatModel | None = None,
    filter: Filter | None = None,
) -> Search:
    """The search that the settings describe, over one index.

    ``reranker`` judges hits again (see ``rerank``); ``model`` is asked by the expansions that need
    one, from worker threads only. Raises ``ConfigurationError``
    where an expansion needs a model and there is none.
    """
    settings = settings or SearchSettings()

    def search(query: str, top: int) -> Sequence[Hit]:
        return index.search(query, top, mode=settings.mode, filter=filter, fusion=settings.fusion)

    found = _expanded(search, index, settings, model, filter)
    if settings.neighbours:
        found = reranked(found, neighbour_reranker(settings.neighbours), settings.rerank_depth)
    if reranker is not None:
        again = interpolated(reranker, settings.rerank_weight)
        found = reranked(found, again, settings.rerank_depth)
    changes = _changes(settings)
    if changes:
        found = rearranged(found, *changes)
    if index.chunking.strategy == "parent-child":
        found = parent_search(found, lambda identity: index.document(identity).text)
    return found


def _expanded(
    search: Search,
    index: Index,
    settings: SearchSettings,
    model: ChatModel | None,
    filter: Filter | None,
) -> Search:
    if settings.expand == "none":
        return search
    if settings.expand == "clauses":
        from llmwright.retrieval.queries.splitting import clauses

        return expanded(search, clauses, parts=True)
    if settings.expand == "iterated":
        from llmwright.retrieval.queries.iterated import iterated

        return iterated(
            search,
            lambda query, top: index.search(query, top, mode="lexical", filter=filter),
        )
    if model is None:
        raise ConfigurationError(
            f"the expansion {settings.expand} asks a chat model, and none is given",
            where="search",
            fix="name a model, or use clauses or iterated",
        )
    return expanded(
        search, _rewrite(settings.expand, model), parts=settings.expand == "sub-questions"
    )


def _rewrite(expand: Expand, model: ChatModel) -> Rewrite:
    from llmwright.retrieval.queries.hyde import hypothetical_answers
    from llmwright.retrieval.queries.rewriting import paraphrases, step_back, sub_questions

    if expand == "hyde":
        return hypothetical_answers(model)
    if expand == "paraphrases":
        return paraphrases(model)
    return sub_questions(model) if expand == "sub-questions" else step_back(model)


def _changes(settings: SearchSettings) -> list[Callable[[Sequence[Hit]], Sequence[Hit]]]:
    changes: list[Callable[[Sequence[Hit]], Sequence[Hit]]] = []
    if settings.half_life:
        half_life = timedelta(days=settings.half_life)
        changes.append(
            lambda hits: time_decay(
                hits, half_life=half_life, now=datetime.now(UTC), undated=_UNDATED
            )
        )
    if settings.duplicates:
        changes.append(lambda hits: drop_near_duplicates(hits, threshold=settings.duplicates))
    if settings.diversity:
        balance = 1 - settings.diversity
        changes.append(lambda hits: maximal_marginal_relevance(hits, len(hits), balance=balance))
    return changes
