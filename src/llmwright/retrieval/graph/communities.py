"""Groups of entities that belong together, from coarse to fine, and kept so as documents come.

Leiden (Traag, Waltman and van Eck, "From Louvain to Leiden: guaranteeing well-connected
communities", 2019, arXiv 1810.08473) raises modularity

    Q = sum over communities c of  e_c / m - (K_c / 2m)^2

with e_c the weight of edges inside c, K_c the degrees in c and m the weight of all edges; groups
above ``largest`` are divided again, which gives the levels. Edges are the relations a model found,
by strength; where no model has read, names that stand in one sentence, in two sentences or more.

A community's summary belongs to what its members say, by hash: clustering anew asks for no summary
whose community says what it said before. A new entity joins, at every level, the community that
its edges weigh most in, and only the communities it touches are stale; ``cluster`` is for when
many have come. Costs: ``cluster`` a pass over the edges (compiled), ``settle`` the new ones' own.
"""

from __future__ import annotations

from collections import defaultdict

from llmwright.core import content_hash
from llmwright.retrieval.graph.store import EntityGraph

LARGEST = 12

_RELATED = """
SELECT min(source, target), max(source, target), sum(weight) FROM relations GROUP BY 1, 2
ORDER BY 1, 2
"""
_BESIDE = """
SELECT a.name, b.name, count(*) FROM mentions AS a
JOIN mentions AS b ON a.passage = b.passage AND a.sentence = b.sentence AND a.name < b.name
GROUP BY 1, 2 HAVING count(*) > 1 ORDER BY 1, 2
"""


def edges(graph: EntityGraph) -> list[tuple[int, int, float]]:
    """Pairs of entities with the weight between them: relations, or common sentences where
    there are none. Of two names of which one is a part of the other there is no edge."""
    found = graph.rows(_RELATED) or graph.rows(_BESIDE)
    keys = dict(graph.rows("SELECT id, key FROM names"))
    return [
        (a, b, float(weight))
        for a, b, weight in found
        if f" {keys[a]} " not in f" {keys[b]} " and f" {keys[b]} " not in f" {keys[a]} "
    ]


def cluster(graph: EntityGraph, *, largest: int = LARGEST, seed: int = 0) -> int:
    """Find all communities anew; how many there are. Equal graphs and seeds give equal ones.

    Raises ``MissingDependencyError`` where graspologic-native is not installed.
    """
    kept = {
        digest: (title, summary)
        for digest, title, summary in graph.rows(
            "SELECT hash, title, summary FROM communities WHERE summary != ''"
        )
    }
    pairs = edges(graph)
    members: dict[tuple[int, int], set[int]] = defaultdict(set)  # (level, cluster) to entities
    parents: dict[tuple[int, int], int | None] = {}
    for node, number, parent, level in _leiden(pairs, largest, seed):
        members[level, number].add(node)
        parents[level, number] = parent
    with graph.transaction():
        graph.rows("DELETE FROM communities")
        for (level, number), names in sorted(members.items()):
            graph.rows(
                "INSERT INTO communities (id, level, parent, stale) VALUES (?, ?, ?, 1)",
                number, level, parents[level, number],
            )  # fmt: skip
            for name in sorted(names):
                graph.rows("INSERT INTO members VALUES (?, ?, ?)", name, level, number)
        for _, number in sorted(members):
            digest = content_hash(community_lines(graph, number))
            if digest in kept:
                graph.rows(
                    "UPDATE communities SET stale = 0, hash = ?, title = ?, summary = ? "
                    "WHERE id = ?", digest, *kept[digest], number,
                )  # fmt: skip
    return len(members)


def _leiden(
    pairs: list[tuple[int, int, float]], largest: int, seed: int
) -> list[tuple[int, int, int | None, int]]:
    """(entity, community, its parent, level) of hierarchical Leiden."""
    if not pairs:
        return []
    try:
        import graspologic_native
    except ModuleNotFoundError as error:
        from llmwright.core import MissingDependencyError

        raise MissingDependencyError(
            "communities are found by graspologic-native, which is not installed",
            fix="pip install 'llmwright[graph]'",
        ) from error
    found = graspologic_native.hierarchical_leiden(
        [(str(a), str(b), weight) for a, b, weight in pairs],
        max_cluster_size=largest,
        seed=seed,
    )
    return [(int(one.node), one.cluster, one.parent_cluster, one.level) for one in found]


def settle(graph: EntityGraph) -> int:
    """Give every entity that has edges and no community one; how many found theirs.

    Entities are taken by number, so one that hangs on another new one comes after it.
    """
    waiting = graph.rows(
        "SELECT DISTINCT name FROM descriptions "
        "WHERE name NOT IN (SELECT name FROM members) ORDER BY name"
    )
    settled = 0
    with graph.transaction():
        for (name,) in waiting:
            near = graph.rows(
                "SELECT level, community, sum(weight) FROM "
                "(SELECT target AS other, weight FROM relations WHERE source = ?1 "
                "UNION ALL SELECT source, weight FROM relations WHERE target = ?1) "
                "JOIN members ON members.name = other GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2",
                name,
            )
            best: dict[int, int] = {}
            for level, community, _ in near:
                best.setdefault(level, community)
            for level, community in best.items():
                graph.rows("INSERT INTO members VALUES (?, ?, ?)", name, level, community)
                graph.rows("UPDATE communities SET stale = 1 WHERE id = ?", community)
            settled += bool(best)
    return settled


def community_lines(graph: EntityGraph, community: int) -> list[str]:
    """What is said of a community's entities and of the relations among them, the entities of
    most relations first; where no model has read, their names."""
    described = graph.rows(
        "SELECT names.id, spelling, kind, text FROM members JOIN names ON names.id = members.name "
        "LEFT JOIN descriptions ON descriptions.name = names.id "
        "WHERE community = ? ORDER BY names.id, passage",
        community,
    )
    related = graph.rows(
        "SELECT source, target, a.spelling, b.spelling, text FROM relations "
        "JOIN members AS x ON x.name = source AND x.community = ?1 "
        "JOIN members AS y ON y.name = target AND y.community = ?1 "
        "JOIN names AS a ON a.id = source JOIN names AS b ON b.id = target "
        "ORDER BY weight DESC, source, target, passage",
        community,
    )
    degree: dict[int, int] = defaultdict(int)
    for source, target, *_ in related:
        degree[source] += 1
        degree[target] += 1
    said: dict[str, None] = {}
    for _, spelling, kind, text in sorted(described, key=lambda row: -degree[row[0]]):
        said[f"{spelling} ({kind}): {text}" if text else spelling] = None
    return [*said, *dict.fromkeys(f"{a} -> {b}: {text}" for _, _, a, b, text in related)]
