"""A graph built by a model, as far as the budget goes: read, cluster, summarise.

Each part keeps what it finished, so a run that ended at its cap, or was killed, goes on where it
ended. A document that came later costs the reading of its passages and the summaries of the
communities that its entities join; ``anew`` finds the communities again, which asks only for
those summaries whose facts changed.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmwright.core import ChatModel
from llmwright.retrieval.graph.budget import Budget
from llmwright.retrieval.graph.communities import LARGEST, cluster, settle
from llmwright.retrieval.graph.extraction import Extracted, extract_graph
from llmwright.retrieval.graph.store import EntityGraph
from llmwright.retrieval.graph.summaries import Summarised, summarise


@dataclass(frozen=True, slots=True)
class Built:
    """What was done. ``communities`` counts all there are; ``settled`` the new entities that
    joined one."""

    extracted: Extracted
    communities: int
    settled: int
    summarised: Summarised

    @property
    def stopped(self) -> str:
        return self.extracted.stopped or self.summarised.stopped


def build_graph(
    graph: EntityGraph,
    model: ChatModel,
    budget: Budget,
    *,
    anew: bool = False,
    largest: int = LARGEST,
    seed: int = 0,
    together: int = 4,
) -> Built:
    """Read what is unread, find or extend the communities, write the summaries that are missing."""
    extracted = extract_graph(graph, model, budget, together=together)
    settled = 0
    if anew or not graph.stats()["communities"]:
        cluster(graph, largest=largest, seed=seed)
    else:
        settled = settle(graph)
    summarised = summarise(graph, model, budget, together=together)
    return Built(extracted, graph.stats()["communities"], settled, summarised)
