"""A search whose hits are put in another order, or thinned, before the best are shown.

    rearranged(search, change)(query, top) = change(search(query, depth))[:top]

``change`` takes hits and gives hits: time decay, near-duplicates dropped, maximal marginal
relevance, or several in turn. It sees a shortlist of ``depth``, deeper than what is shown, so
that what it drops or demotes is replaced.

    newest = lambda hits: time_decay(hits, half_life=timedelta(days=90), now=now, undated=0.5)
    varied = lambda hits: maximal_marginal_relevance(hits, len(hits))
    search = rearranged(index.search, newest, drop_near_duplicates, varied)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmwright.core import Hit, Search

DEPTH = 50

Change = Callable[[Sequence[Hit]], Sequence[Hit]]


def rearranged(search: Search, *changes: Change, depth: int = DEPTH) -> Search:
    """``search`` with its ``depth`` best hits (or ``top``, if that is more) changed in turn."""

    def changed(query: str, top: int) -> Sequence[Hit]:
        hits = search(query, max(depth, top))
        for change in changes:
            hits = change(hits)
        return hits[:top]

    return changed
