"""What building a graph with a model will cost, before the first call.

Passages not yet read are counted exactly: their prompts as the model will be given them, and the
longest answers allowed. How many communities there will be is not known before; one for every
``PASSAGES_EACH`` passages is assumed where there are none, each reading and writing the most it
may. So the figure is a ceiling for reading the passages and a guess for the summaries.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmwright.core import Usage
from llmwright.retrieval.graph import summaries
from llmwright.retrieval.graph.budget import Prices, reserve_of
from llmwright.retrieval.graph.extraction import extraction_messages, extraction_params
from llmwright.retrieval.graph.store import EntityGraph, to_chunk

PASSAGES_EACH = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """Calls, tokens and money of what is still to do."""

    passages: int
    communities: int
    usage: Usage
    cost: float

    @property
    def calls(self) -> int:
        return self.passages + self.communities


def estimate_cost(graph: EntityGraph, prices: Prices | None = None) -> Estimate:
    """The most that reading the unread passages may use, and about what summaries add."""
    usage = Usage()
    waiting = graph.rows(
        "SELECT record, title FROM passages WHERE id NOT IN (SELECT passage FROM extractions)"
    )
    for record, title in waiting:
        usage += reserve_of(extraction_messages(to_chunk(record), title), extraction_params())
    (total, stale) = graph.rows(
        "SELECT count(*), coalesce(sum(stale OR summary = ''), 0) FROM communities"
    )[0]
    communities = int(stale) + len(waiting) // PASSAGES_EACH
    if waiting and not total:
        communities = max(communities, 1)
    each = Usage(summaries.ROOM, summaries.MAX_TOKENS)
    usage += Usage(each.prompt_tokens * communities, each.completion_tokens * communities)
    return Estimate(len(waiting), communities, usage, (prices or Prices()).cost(usage))
