"""Personalised PageRank by pushes, against the solution of the linear system."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import Chunk, ConfigurationError, Hit
from llmwright.retrieval.graph import EntityGraph, ppr_search, push


@given(
    st.integers(2, 12),
    st.integers(0, 10**6),
    st.floats(0.1, 0.9),
    st.sampled_from([1e-2, 1e-4, 1e-6]),
)
def test_what_is_missing_is_at_most_epsilon_of_the_degree(nodes, seed, alpha, epsilon):
    rng = np.random.default_rng(seed)
    weights = np.triu(rng.random((nodes, nodes)) * (rng.random((nodes, nodes)) < 0.6), 1)
    weights = weights + weights.T
    for node in range(nodes):  # a ring, so that no node is alone
        weights[node, (node + 1) % nodes] += 0.1
        weights[(node + 1) % nodes, node] += 0.1
    degrees = weights.sum(axis=1)
    start = rng.dirichlet(np.ones(nodes))
    exact = np.linalg.solve(
        np.eye(nodes) - (1 - alpha) * (weights / degrees[:, None]).T, alpha * start
    )

    def neighbours(node):
        return {int(other): float(weights[node, other]) for other in np.flatnonzero(weights[node])}

    rank, residue = push(dict(enumerate(start.tolist())), neighbours, alpha, epsilon)
    missing = exact - np.array([rank.get(node, 0.0) for node in range(nodes)])
    assert (missing >= -1e-9).all()
    assert (missing <= epsilon * degrees + 1e-9).all()
    assert sum(rank.values()) + sum(residue.values()) == pytest.approx(1.0)


def test_work_is_bounded_by_epsilon_and_not_by_the_graph():
    seen = []

    def endless(node):
        seen.append(node)
        return {node - 1: 1.0, node + 1: 1.0}

    push({0: 1.0}, endless, alpha=0.5, epsilon=1e-3)
    assert len(seen) < 1 / (1e-3 * 0.5)


def test_a_node_without_edges_keeps_what_it_is_given():
    assert push({3: 1.0}, lambda node: {}) == ({3: 1.0}, {3: 0.0})


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"epsilon": 1.0}])
def test_a_number_out_of_range_is_named(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        push({0: 1.0}, lambda node: {}, **wrong)


TEXTS = {
    "a": "Van Hook Township lies in Mountrail County.",
    "b": "The Mountrail County Courthouse stands in Stanley.",
    "c": "Herring is caught at night in Bergen.",
    "d": "Bergen is far away.",
}


@pytest.fixture
def graph(tmp_path):
    with EntityGraph(tmp_path / "g") as opened:
        for identity in TEXTS:
            opened.upsert(identity, [chunk(identity)])
        yield opened


def chunk(identity):
    text = TEXTS[identity]
    return Chunk(identity, identity, text, 0, len(text), language="en")


def test_the_walk_reaches_what_shares_a_name_with_what_is_named(graph):
    hits = ppr_search(graph)("What is the seat of the county of Van Hook Township?", 10)
    assert [hit.chunk.id for hit in hits] == ["a", "b"]
    assert hits[0].score > hits[1].score > 0
    assert [hit.ranks for hit in hits] == [{"graph": 1}, {"graph": 2}]


def test_a_search_gives_places_to_start_from(graph):
    assert ppr_search(graph)("who fishes?", 10) == []
    hits = ppr_search(graph, lambda query, top: [Hit(chunk("c"), 1.0)])("who fishes?", 10)
    assert [hit.chunk.id for hit in hits] == ["c", "d"]
