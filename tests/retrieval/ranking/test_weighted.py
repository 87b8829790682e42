"""Fusion: the default is what reciprocal ranks always gave; weighted sums against dense ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError
from llmwright.retrieval import Fusion, reciprocal_rank_fusion

NAMES = ["lexical", "dense", "lexical feedback", "dense feedback"]


@st.composite
def rankings(draw):
    """Four rankings of some of 12 rows, with scores that tie now and then."""
    found = {}
    for name in NAMES:
        rows = draw(st.lists(st.integers(0, 11), unique=True, max_size=12))
        scores = [draw(st.integers(0, 8)) / 8 for _ in rows]
        found[name] = sorted(zip(rows, scores, strict=True), key=lambda pair: (-pair[1], pair[0]))
    return found


@given(rankings())
def test_the_default_is_reciprocal_ranks_with_feedback_at_half_weight(found):
    rows = [[row for row, _ in ranking] for ranking in found.values()]
    assert Fusion()(found) == reciprocal_rank_fusion(rows, 10, [1, 1, 0.5, 0.5])


@given(rankings(), st.sampled_from(["theoretical", "minmax", "zscore"]), st.data())
def test_weighted_sums_are_those_of_whole_columns(found, how, data):
    """Each ranking as a column of all rows, normalised by another's code, missing rows filled."""
    weights = {name: data.draw(st.integers(0, 4)) / 4 for name in NAMES}
    rows = sorted({row for name in NAMES if weights[name] for row, _ in found[name]})
    depth = max(map(len, found.values()))
    expected = np.zeros(12)
    for name in NAMES:
        scores = np.array([score for _, score in found[name]])
        if not len(scores):
            continue
        least = -1.0 if name.startswith("dense") else 0.0
        if how == "zscore":
            same = np.ptp(scores) == 0
            normal = np.zeros(len(scores)) if same else scipy.stats.zscore(scores)
            missing = normal.min()
        elif how == "minmax":
            same = np.ptp(scores) == 0
            normal = np.ones(len(scores)) if same else (scores - scores.min()) / np.ptp(scores)
            missing = 0.0
        else:
            flat = scores.max() == least
            normal = np.ones(len(scores)) if flat else (scores - least) / (scores.max() - least)
            missing = normal.min() if len(scores) == depth and not flat else 0.0
        column = np.full(12, missing)
        column[[row for row, _ in found[name]]] = normal
        expected += weights[name] * column
    total = sum(weights[name] for name in NAMES if found[name])
    fused = dict(Fusion("weighted", weights=weights, normalisation=how)(found))
    assert sorted(fused) == rows
    assert fused == pytest.approx({row: expected[row] / total for row in rows}, abs=1e-12)


@given(rankings(), st.sampled_from(["rrf", "weighted"]))
def test_the_order_is_by_score_then_row_and_weights_are_relative(found, method):
    weights = {"lexical": 0.4, "dense": 0.6}
    fused = Fusion(method, weights=weights)(found)
    assert fused == sorted(fused, key=lambda pair: (-pair[1], pair[0]))
    double = Fusion(method, weights={name: 2 * w for name, w in weights.items()})(found)
    assert [row for row, _ in double] == [row for row, _ in fused]


def test_worked_example():
    found = {"lexical": [("a", 8.0), ("b", 4.0)], "dense": [("b", 0.6), ("c", 0.2)]}
    classic = Fusion("weighted", weights={"lexical": 0.4, "dense": 0.6})
    # The least of each, 4 of 8 and 1.2 of 1.6 above -1, counts where a row is missing.
    assert classic(found) == [
        ("a", pytest.approx(0.4 * 1 + 0.6 * 0.75)),
        ("b", pytest.approx(0.4 * 0.5 + 0.6 * 1)),
        ("c", pytest.approx(0.4 * 0.5 + 0.6 * 0.75)),
    ]


def test_a_ranking_that_ended_early_gives_nothing_to_what_it_lacks():
    found = {"lexical": [(1, 5.0)], "dense": [(2, 0.5), (3, 0.4), (1, 0.3)]}
    fused = dict(Fusion("weighted")(found))
    assert fused[1] == pytest.approx((1 + 1.3 / 1.5) / 2)
    assert fused[2] == pytest.approx(1 / 2)


def test_weights_of_feedback_follow_their_retriever_unless_named():
    fusion = Fusion(weights={"lexical": 0.4, "dense feedback": 0.1})
    assert [fusion.weight(name) for name in NAMES] == [0.4, 1.0, 0.2, 0.1]
    silent = Fusion(weights={"lexical": 0})
    found = {"lexical": [(1, 5.0)], "lexical feedback": [(2, 1.0)], "dense": [(3, 0.5)]}
    assert [row for row, _ in silent(found)] == [3]
    assert Fusion(weights=dict.fromkeys(["lexical", "dense"], 0))(found) == []
    assert Fusion("weighted")({}) == Fusion("weighted")({"lexical": []}) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "sum"}, r"'sum' is not a method; use rrf or weighted"),
        ({"normalisation": "l2"}, r"'l2' is not a normalisation; use theoretical"),
        ({"k": -1}, r"k is -1; give 0 or more"),
        ({"k": float("nan")}, r"k is nan"),
        ({"weights": {"dense": -0.5}}, r"the weight of 'dense' is -0.5; give 0 or more"),
        ({"weights": {"dense": float("inf")}}, r"the weight of 'dense' is inf"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Fusion(**arguments)
