"""Feedback by worked examples."""

from __future__ import annotations

import numpy as np
import pytest

from llmwright.retrieval import BM25
from llmwright.retrieval.lexical.terms import passage_terms, query_terms, term_hash
from llmwright.retrieval.ranking.feedback import BETA, LAMBDA, TERMS, expand_terms, expand_vector


def test_a_vector_moves_towards_the_passages_and_keeps_length_one():
    query = np.array([1, 0], np.float32)
    moved = expand_vector(query, np.array([[0, 1], [0, 1]], np.float32))
    assert moved == pytest.approx(np.array([1, BETA]) / np.hypot(1, BETA))
    assert expand_vector(query, np.zeros((0,), np.float32)) is query


def test_the_stems_that_tell_most_of_the_passages_join_the_query():
    texts = ["lift of a wing in a slipstream", "a cat and a dog", "a dog and a bird"]
    terms = [passage_terms(text, "en") for text in texts]
    bm25 = BM25.build(np.concatenate(terms), np.array([len(t) for t in terms]))
    query = query_terms("wing", ["en"])
    expanded = expand_terms(query, bm25, [0])
    assert sum(expanded.values()) == pytest.approx(1)
    added = expanded.keys() - query.keys()
    assert added == {term_hash(stem) for stem in ("lift", "of", "a", "in", "slipstream")}
    assert len(added) <= TERMS
    assert expanded[term_hash("slipstream")] > expanded[term_hash("a")]
    assert sum(expanded[term] for term in added) < LAMBDA
    assert expand_terms(query, bm25, []) == query


def test_of_many_stems_the_most_telling_join():
    rare = ["zebra", "quartz", "violin", "harbor", "comet", "walnut", "ginger", "marble", "falcon",
            "turnip", "copper", "lantern"]  # fmt: skip
    texts = [" ".join(rare), *(" ".join(rare[:4]) for _ in range(5))]
    terms = [passage_terms(text, "en") for text in texts]
    bm25 = BM25.build(np.concatenate(terms), np.array([len(t) for t in terms]))
    gives = bm25.passage(0)
    expanded = expand_terms({0: 2.0}, bm25, [0])
    assert len(expanded) == 1 + TERMS < 1 + len(gives)
    assert expanded[0] == pytest.approx(1 - LAMBDA)
    left_out = gives.keys() - expanded.keys()
    assert max(gives[term] for term in left_out) <= min(gives[t] for t in expanded if t)
    total = sum(gives[term] for term in expanded if term)
    for term in expanded.keys() - {0}:
        assert expanded[term] == pytest.approx(LAMBDA * gives[term] / total)


def test_a_vector_that_feedback_cancels_is_no_direction():
    query = np.array([1, 0], np.float32)
    assert expand_vector(query, np.array([[-1 / BETA, 0]], np.float32)).tolist() == [0, 0]
