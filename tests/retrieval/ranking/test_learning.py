"""Learned fusions: the metrics against pytrec_eval, what is learned against what is planted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import ConfigurationError
from llmwright.retrieval.ranking.fusion import DEFAULT_FUSION
from llmwright.retrieval.ranking.learning import (
    candidates,
    judge_fusions,
    learn_fusion,
    simplex,
)


def planted(seed: int, queries: int, noise: dict[str, float]):
    """Rankings of 30 rows whose scores are the truth plus noise; the best 3 are relevant."""
    rng = np.random.default_rng(seed)
    rankings, relevant = [], []
    for _ in range(queries):
        truth = rng.normal(size=30)
        found = {}
        for name, spread in noise.items():
            scores = 1 / (1 + np.exp(-(truth + spread * rng.normal(size=30))))
            order = np.argsort(-scores)[:20]
            found[name] = [(f"r{row:02}", float(scores[row])) for row in order]
        rankings.append(found)
        relevant.append({f"r{row:02}" for row in np.argsort(-truth)[:3]})
    return rankings, relevant


@pytest.mark.parametrize("metric", ["ndcg@10", "mrr@10", "recall@10", "hit@1"])
def test_the_metrics_are_trec_evals(metric):
    rankings, relevant = planted(1, 12, {"lexical": 1.0, "dense": 2.0})
    relevant[3] = {"elsewhere"}
    relevant[4] |= {f"r{row:02}" for row in range(15)}
    judged = judge_fusions(rankings, relevant, metric)
    measure = {"ndcg@10": "ndcg_cut_10", "mrr@10": "recip_rank", "recall@10": "recall_10"}
    name = measure.get(metric, "success_1")
    qrels = {str(q): dict.fromkeys(wanted, 1) for q, wanted in enumerate(relevant)}
    run = {}
    for q, ranking in enumerate(rankings):
        fused = judged.best(ranking)[:10]
        run[str(q)] = {row: 1.0 - place / 100 for place, (row, _) in enumerate(fused)}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {name}).evaluate(run)
    expected = [theirs[str(q)][name] for q in range(12)]
    assert judged.values == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_every_point_is_judged_by_what_it_gives_when_called(seed):
    """The default's values, and those of the best, are those of the fused rankings themselves."""
    noise = {"lexical": 1.0, "dense": 1.0, "lexical feedback": 2.0}
    rankings, relevant = planted(seed, 4, noise)
    judged = judge_fusions(rankings, relevant, "mrr@10", folds=2)
    for fusion, values in ((judged.best, judged.values), (DEFAULT_FUSION, judged.default_values)):
        for ranking, wanted, value in zip(rankings, relevant, values, strict=True):
            places = [n for n, (row, _) in enumerate(fusion(ranking)[:10], 1) if row in wanted]
            assert value == pytest.approx(1 / places[0] if places else 0.0)


def test_a_retriever_that_only_guesses_loses_its_weight():
    rankings, relevant = planted(2, 60, {"lexical": 0.3, "dense": 50.0})
    judged = judge_fusions(rankings, relevant)
    assert judged.fusion == judged.best != DEFAULT_FUSION
    assert judged.best.weight("lexical") >= 4 * judged.best.weight("dense")
    assert judged.gain.low is not None and judged.gain.low > 0
    assert learn_fusion(rankings[:19], relevant[:19]) == DEFAULT_FUSION  # too few to tell


def test_where_there_is_nothing_to_learn_the_default_stays():
    rankings, relevant = planted(4, 30, {"lexical": 1.0, "dense": 1.0})
    judged = judge_fusions(rankings, relevant)
    seen = np.mean(judged.values) - np.mean(judged.default_values)
    assert seen > 0  # on what it was learned from, which says nothing:
    assert judged.gain.value is not None and judged.gain.value <= seen + 1e-9
    assert judged.gain.low is not None and judged.gain.low <= 0
    assert judged.fusion == learn_fusion(rankings, relevant) == DEFAULT_FUSION
    one = learn_fusion(rankings[:1], relevant[:1])
    assert one == learn_fusion([], []) == learn_fusion(rankings, [set()] * 30) == DEFAULT_FUSION


def test_documents_are_judged_by_their_first_chunk():
    rankings = [{"lexical": [("a#1", 3.0), ("a#0", 2.0), ("b#0", 1.0)], "dense": [("b#0", 0.5)]}]
    judged = judge_fusions(rankings, [{"b"}], "mrr@10", unit=lambda chunk: chunk[0])
    assert judged.default_values == (1.0,)  # 1/13 + 1/11 against 1/11
    lexical = [{"lexical": rankings[0]["lexical"]}]
    assert judge_fusions(lexical, [{"b#0"}], "mrr@10").values == (1 / 3,)
    by_document = judge_fusions(lexical, [{"b"}], "mrr@10", unit=lambda chunk: chunk[0])
    assert by_document.values == (1 / 2,)


@pytest.mark.parametrize(("parts", "steps"), [(1, 10), (2, 10), (3, 4), (4, 3)])
def test_the_simplex_is_cut_evenly(parts, steps):
    points = simplex(parts, steps)
    assert len(set(points)) == len(points) == math.comb(steps + parts - 1, parts - 1)
    assert all(sum(point) == pytest.approx(1) and min(point) >= 0 for point in points)
    assert max(points[0]) - min(points[0]) <= 1 / steps + 1e-9


def test_the_classic_weights_are_tried():
    points = candidates({"lexical", "dense", "dense feedback"})
    assert points[0] == DEFAULT_FUSION
    classic = {"dense": 0.6, "lexical": 0.4}
    assert any(classic.items() <= dict(p.weights).items() for p in points)


def test_wrong_arguments():
    with pytest.raises(ConfigurationError, match="0 rankings, 1 sets of relevant ids"):
        learn_fusion([], [{"a"}])
    with pytest.raises(ConfigurationError, match=r"metric 'map'; give one set .* ndcg@10, mrr@10"):
        learn_fusion([], [], "map")
