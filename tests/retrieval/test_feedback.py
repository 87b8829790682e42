"""Feedback by worked examples."""

from __future__ import annotations

import numpy as np
import pytest

from llmwright.retrieval import BM25
from llmwright.retrieval.feedback import BETA, LAMBDA, TERMS, expand_terms, expand_vector
from llmwright.retrieval.lexical import passage_terms, query_terms, term_hash


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
