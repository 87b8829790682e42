"""Personalised PageRank around a question's names, by local pushes over the graph on disk.

With W the weights of the edges and D its row sums, the rank p of a walk that at each step starts
anew from s with probability alpha solves

    p = alpha s + (1 - alpha) p D^-1 W

"Push" (Andersen, Chung and Lang, "Local Graph Partitioning using PageRank Vectors", FOCS 2006)
keeps an estimate p and a residue r, begun as 0 and s, and while a node u has r(u) > epsilon d(u)
moves alpha r(u) to p(u) and spreads the rest of r(u) over its neighbours. What is missing in the
end is at most epsilon d(u) at each node u of an undirected graph, after at most 1 / (epsilon
alpha) of degree pushed: that does not depend on how large the graph is.

As a search this is HippoRAG's (Gutierrez, Shu, Gu, Yasunaga and Su, 2024, arXiv 2405.14831) with
names found by form in place of a model's triples: the walk starts from the names in the question,
each weighted by its rarity, and, where a search is given, from the passages that it finds.
Edges join a passage with each name in it that another holds too; one weighs 1 / log(1 + n) where
n passages hold the name.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeVar

from llmwright.core import ConfigurationError, Hit, Search
from llmwright.retrieval.graph.names import read
from llmwright.retrieval.graph.store import EntityGraph, to_chunk

Node = TypeVar("Node", int, str)

ALPHA = 0.5
EPSILON = 1e-3
FANOUT = 100


def push(
    start: Mapping[Node, float],
    neighbours: Callable[[Node], Mapping[Node, float]],
    alpha: float = ALPHA,
    epsilon: float = EPSILON,
) -> tuple[dict[Node, float], dict[Node, float]]:
    """The estimate and the residue of each node that was reached.

    ``start`` holds shares, ``neighbours`` gives the weights of a node's edges, both above 0. A
    node without edges keeps what it is given. Raises ``ConfigurationError`` for an ``alpha`` or
    ``epsilon`` outside 0 to 1.
    """
    for name, value in (("alpha", alpha), ("epsilon", epsilon)):
        if not 0 < value < 1:
            raise ConfigurationError(
                f"{name} is {value}", where="pagerank", fix="give a number between 0 and 1"
            )
    rank: dict[Node, float] = {}
    residue = dict(start)
    edges: dict[Node, Mapping[Node, float]] = {}
    degrees: dict[Node, float] = {}
    queue = deque(residue)
    waiting = set(queue)
    while queue:
        node = queue.popleft()
        waiting.discard(node)
        if node not in edges:
            edges[node] = neighbours(node)
            degrees[node] = sum(edges[node].values())
        if residue[node] <= epsilon * degrees[node]:
            continue
        moved, residue[node] = residue[node], 0.0
        if not degrees[node]:
            rank[node] = rank.get(node, 0.0) + moved
            continue
        rank[node] = rank.get(node, 0.0) + alpha * moved
        for other, weight in edges[node].items():
            share = (1 - alpha) * moved * weight / degrees[node]
            residue[other] = residue.get(other, 0.0) + share
            if other not in waiting:
                waiting.add(other)
                queue.append(other)
    return rank, residue


def ppr_search(
    graph: EntityGraph,
    search: Search | None = None,
    *,
    fanout: int = FANOUT,
    alpha: float = ALPHA,
    epsilon: float = EPSILON,
) -> Search:
    """Passages by their personalised PageRank from the question.

    Half of the start lies on the question's names and half on the 10 first hits of ``search``,
    by reciprocal rank; all on the one where the other gives nothing. Names that more than
    ``fanout`` passages hold are no edges. A question whose names the graph does not know finds
    nothing without ``search``.
    """

    def found(query: str, top: int) -> list[Hit]:
        start = _start(graph, query, fanout)
        hits = search(query, 10) if search is not None else []
        nodes = _passages(graph, [hit.chunk.id for hit in hits])
        weights = {node: 1 / rank for rank, node in enumerate(nodes, start=1)}
        parts = [part for part in (start, weights) if part]
        shares: dict[int, float] = {}
        for part in parts:
            total = sum(part.values()) * len(parts)
            for node, weight in part.items():
                shares[node] = shares.get(node, 0.0) + weight / total
        cache: dict[int, Mapping[int, float]] = {}
        rank, _ = push(shares, lambda node: _edges(graph, node, fanout, cache), alpha, epsilon)
        best = sorted((-value, node) for node, value in rank.items() if node > 0)[:top]
        return [
            Hit(to_chunk(_record(graph, node)), -value, {"graph": place})
            for place, (value, node) in enumerate(best, start=1)
        ]

    return found


# Passages are nodes by their number, names by theirs below zero.


def _start(graph: EntityGraph, query: str, fanout: int) -> dict[int, float]:
    """The question's names, by rarity."""
    languages = [code for (code,) in graph.rows("SELECT code FROM languages")]
    keys = {key for code in languages for key in _keys(query, code)}
    start = {}
    for key in sorted(keys):
        for (name,) in graph.rows("SELECT id FROM names WHERE key = ?", key):
            if count := _holders(graph, name, fanout):
                start[-name] = 1 / math.log(1 + count)
    return start


def _keys(query: str, language: str) -> set[str]:
    """Every run of up to five words of the question may be a name, however it is written."""
    stems = read(query, "", language).phrase.split()
    return {
        " ".join(stems[begin:end])
        for begin in range(len(stems))
        for end in range(begin + 1, min(begin + 5, len(stems)) + 1)
    }


_COUNT = "(SELECT count(*) FROM (SELECT DISTINCT passage FROM mentions WHERE name = {} LIMIT ?2))"


def _holders(graph: EntityGraph, name: int, fanout: int) -> int:
    """How many passages hold a name; 0 where they are more than ``fanout``."""
    count = int(graph.rows(f"SELECT {_COUNT.format('?1')}", name, fanout + 1)[0][0])
    return count if count <= fanout else 0


def _edges(
    graph: EntityGraph, node: int, fanout: int, cache: dict[int, Mapping[int, float]]
) -> Mapping[int, float]:
    if node not in cache:
        if node < 0:
            rows = graph.rows(
                "SELECT DISTINCT passage FROM mentions WHERE name = ? LIMIT ?", -node, fanout + 1
            )
            held = [(passage, len(rows)) for (passage,) in rows]
        else:
            held = graph.rows(
                f"SELECT -held.name, {_COUNT.format('held.name')} FROM "  # noqa: S608
                "(SELECT DISTINCT name FROM mentions WHERE passage = ?1) AS held",
                node,
                fanout + 1,
            )
        least = 1 if node < 0 else 2  # a name of one passage is a way in, but leads no further
        cache[node] = {
            other: 1 / math.log(1 + count) for other, count in held if least <= count <= fanout
        }
    return cache[node]


def _passages(graph: EntityGraph, chunk_ids: list[str]) -> list[int]:
    found = (graph.rows("SELECT id FROM passages WHERE chunk = ?", c) for c in chunk_ids)
    return [rows[0][0] for rows in found if rows]


def _record(graph: EntityGraph, passage: int) -> str:
    return str(graph.rows("SELECT record FROM passages WHERE id = ?", passage)[0][0])
