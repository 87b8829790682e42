from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError
from llmwright.evaluation import ndcg_at_k, precision_at_k, recall_at_k, reciprocal_rank


def test_by_hand() -> None:
    ranked = ["a", "b", "c", "d", "e"]
    relevant = {"b", "d", "z"}
    assert recall_at_k(ranked, relevant, 1) == 0.0
    assert recall_at_k(ranked, relevant, 4) == 2 / 3
    assert precision_at_k(ranked, relevant, 4) == 2 / 4
    assert precision_at_k(ranked, relevant, 10) == 2 / 10  # by k, though only 5 were returned
    assert reciprocal_rank(ranked, relevant) == 1 / 2
    assert reciprocal_rank(ranked, relevant, 1) == 0.0
    # Found at ranks 2 and 4; the best order would fill ranks 1, 2 and 3.
    dcg = 1 / math.log2(3) + 1 / math.log2(5)
    best = 1 + 1 / math.log2(3) + 1 / 2
    assert ndcg_at_k(ranked, relevant, 5) == pytest.approx(dcg / best)


def test_graded_example_of_jarvelin_and_kekalainen_with_linear_gains() -> None:
    # Gains 3 2 3 0 1 2: the example of many textbooks, DCG 6.861, ideal of the same six 7.141.
    gains = {"1": 3.0, "2": 2.0, "3": 3.0, "4": 0.0, "5": 1.0, "6": 2.0}
    assert ndcg_at_k(list("123456"), gains) == pytest.approx(6.861126688 / 7.140995184, abs=1e-9)


def test_nothing_relevant_is_unscored_and_nothing_found_is_zero() -> None:
    for metric in (recall_at_k, precision_at_k, reciprocal_rank, ndcg_at_k):
        assert metric(["a"], set(), 3) is None
        assert metric(["a"], {"a": 0.0}, 3) is None
        assert metric([], {"a"}, 3) == 0.0


def test_an_id_listed_twice_counts_once() -> None:
    assert recall_at_k(["a", "a", "b"], {"a", "b"}, 2) == 1.0
    assert ndcg_at_k(["a", "a"], {"a"}, 2) == 1.0


def test_refuses_k_below_one() -> None:
    for metric in (recall_at_k, precision_at_k, reciprocal_rank, ndcg_at_k):
        assert metric(["a"], {"a"}, 1) == 1.0
        with pytest.raises(ConfigurationError) as caught:
            metric(["a"], {"a"}, 0)
        assert str(caught.value) == "retrieval metric: k is 0; use k of 1 or more."


ids = st.sampled_from([f"d{i}" for i in range(12)])


@given(
    st.lists(ids, unique=True, min_size=1),
    st.dictionaries(ids, st.integers(0, 4), min_size=1).filter(lambda g: any(g.values())),
    st.sampled_from([1, 3, 5, 10]),
)
def test_equals_trec_eval(ranked: list[str], gains: dict[str, int], k: int) -> None:
    pytrec_eval = pytest.importorskip(
        "pytrec_eval", reason="pytrec_eval-terrier comes with the bench extra only"
    )
    names = {f"recall.{k}", f"P.{k}", f"ndcg_cut.{k}", "recip_rank", "ndcg"}
    run = {"q": {item: float(len(ranked) - i) for i, item in enumerate(ranked)}}
    expected = pytrec_eval.RelevanceEvaluator({"q": gains}, names).evaluate(run)["q"]
    graded = {item: float(gain) for item, gain in gains.items()}
    ours = {
        f"recall_{k}": recall_at_k(ranked, graded, k),
        f"P_{k}": precision_at_k(ranked, graded, k),
        f"ndcg_cut_{k}": ndcg_at_k(ranked, graded, k),
        "recip_rank": reciprocal_rank(ranked, graded),
        "ndcg": ndcg_at_k(ranked, graded),
    }
    assert ours == pytest.approx(expected, abs=1e-9)


@given(st.permutations([f"d{i}" for i in range(6)]), st.dictionaries(ids, st.floats(0.1, 4)))
def test_the_best_order_gives_one_and_no_order_gives_more(
    ranked: list[str], gains: dict[str, float]
) -> None:
    value = ndcg_at_k(ranked, gains, 5)
    assert value is None or 0.0 <= value <= 1.0 + 1e-12
    best = sorted(gains, key=lambda item: -gains[item])
    assert ndcg_at_k(best, gains, 5) == (pytest.approx(1.0) if gains else None)
