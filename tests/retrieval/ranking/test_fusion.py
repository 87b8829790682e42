"""Reciprocal rank fusion by worked examples; choosing the best rows against plain sorting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError
from llmwright.retrieval import reciprocal_rank_fusion
from llmwright.retrieval.ranking.fusion import best_rows


def test_worked_example():
    # a: 1/61 + 1/63, b: 1/62 + 1/61, c: 1/63, d: 1/62
    fused = reciprocal_rank_fusion([["a", "b", "c"], ["b", "d", "a"]])
    assert [identity for identity, _ in fused] == ["b", "a", "d", "c"]
    assert dict(fused) == pytest.approx(
        {"a": 1 / 61 + 1 / 63, "b": 1 / 62 + 1 / 61, "c": 1 / 63, "d": 1 / 62}
    )


def test_weights_and_k():
    fused = dict(reciprocal_rank_fusion([["a"], ["b"]], k=1, weights=[3, 1]))
    assert fused == {"a": 1.5, "b": 0.5}


def test_ties_go_by_id_and_doubles_count_once():
    assert reciprocal_rank_fusion([["b"], ["a"]]) == [("a", 1 / 61), ("b", 1 / 61)]
    assert reciprocal_rank_fusion([["a", "a", "b"]]) == [("a", 1 / 61), ("b", 1 / 62)]
    assert reciprocal_rank_fusion([]) == reciprocal_rank_fusion([[], []]) == []


def test_wrong_arguments():
    assert reciprocal_rank_fusion([["a"]], k=0) == [("a", 1.0)]
    with pytest.raises(ConfigurationError, match=r"^rank fusion: k is -1; give 0 or more\.$"):
        reciprocal_rank_fusion([], k=-1)
    with pytest.raises(ConfigurationError) as caught:
        reciprocal_rank_fusion([["a"], ["b"]], weights=[1])
    assert str(caught.value) == (
        "rank fusion: 1 weights for 2 rankings; give one weight for each ranking."
    )


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=30), st.integers(0, 12))
def test_best_rows_are_those_of_a_stable_sort(rows, top):
    scores = np.array([score for score, _ in rows], np.float32)
    allowed = np.array([ok for _, ok in rows], np.bool_)
    expected = sorted((i for i in range(len(rows)) if allowed[i]), key=lambda i: (-scores[i], i))
    assert best_rows(scores, allowed, top).tolist() == expected[:top]
