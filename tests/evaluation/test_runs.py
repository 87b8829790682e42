"""Runs and judgements as trec_eval and ranx score them, and two systems held against each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError, InputError, read_json
from llmwright.evaluation import (
    average_precision,
    compare_reports,
    evaluate_run,
    read_judgements,
    read_run,
)
from llmwright.evaluation.report import Report
from llmwright.statistics import paired_bootstrap

documents = st.sampled_from([f"d{i}" for i in range(8)])
# Few different scores, so that ties are common; grades as Cranfield has them, -1 among them.
runs = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3", "q4"]),
    st.dictionaries(documents, st.sampled_from([0.0, 0.5, 1.0, 2.5]), min_size=1),
)
judgements = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3"]),
    st.dictionaries(documents, st.integers(-1, 3), min_size=1),
    min_size=1,
)


@given(runs, judgements)
def test_every_figure_equals_trec_eval(run, judged):
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="comes with the bench extra only")
    names = {"recall.1,3", "P.1,3", "ndcg_cut.1,3", "recip_rank", "map"}
    evaluator = pytrec_eval.RelevanceEvaluator(judged, names)
    expected = evaluator.evaluate(run)
    report = evaluate_run(run, judged, ks=(1, 3))
    assert [record["id"] for record in report.records] == list(judged)
    for record in report.records:
        figures = record["metrics"]
        if not any(grade > 0 for grade in judged[record["id"]].values()):
            assert set(figures.values()) == {None}  # trec_eval gives 0 and leaves it out of means
        elif record["id"] not in run:
            assert set(figures.values()) == {0.0}  # as trec_eval -c
        else:
            theirs = expected[record["id"]]
            theirs = {
                "mrr": theirs["recip_rank"], "map": theirs["map"],
                **{f"{ours}@{k}": theirs[f"{name}_{k}"] for k in (1, 3) for ours, name in
                   (("recall", "recall"), ("precision", "P"), ("ndcg", "ndcg_cut"))},
            }  # fmt: skip
            assert figures == pytest.approx(theirs, abs=1e-9)


def test_every_figure_equals_ranx():
    """Of ranx 0.3.21, run once on six queries with graded judgements: compiling it takes minutes."""
    stored = read_json(Path(__file__).parent / "ranx_figures.json")
    report = evaluate_run(stored["run"], stored["qrels"])
    ours = {record["id"]: record["metrics"] for record in report.records}
    assert ours.keys() == stored["figures"].keys()
    for query, theirs in stored["figures"].items():
        assert ours[query] == pytest.approx(theirs, abs=1e-9)


def test_average_precision_by_hand():
    # The example of Manning, Raghavan and Schuetze's slides: relevant at 1, 3 and 5 of three.
    ranked, relevant = ["a", "x", "b", "y", "c"], {"a", "b", "c"}
    assert average_precision(ranked, relevant) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert average_precision(ranked, relevant, 3) == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision(ranked, {"z"}) == 0.0
    assert average_precision(ranked, {}) is None


def test_files(tmp_path):
    (tmp_path / "run").write_text(
        "q1 Q0 a 2 1.5 x\nq1 Q0 b 1 2.5 x\n\nq1 Q0 a 3 0.5 x\nq2\tQ0 c 1 1e-3 x\n"
    )
    (tmp_path / "qrels").write_text("q1 0 a 1\nq1 0 b -1\nq3 0 c 2\n")
    run, judged = read_run(tmp_path / "run"), read_judgements(tmp_path / "qrels")
    assert run == {"q1": {"a": 1.5, "b": 2.5}, "q2": {"c": 0.001}}  # the best of two lines
    report = evaluate_run(run, judged, ks=(1, 3))
    figures = {score.name: (score.value, score.n) for score in report.scores}
    assert figures["recall@1"] == (0.0, 2) and figures["recall@3"] == (0.5, 2)
    assert figures["mrr"] == (0.25, 2)
    with pytest.raises(ConfigurationError, match="ks is"):
        evaluate_run(run, judged, ks=(0,))


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "holds nothing"), ("q Q0 a 1 x tag", "line 1: the score 'x' is no number"),
     ("\nq Q0 a 1 nan tag", "line 2: the score 'nan'"), ("q 0 a 1", "line 1: has 4 fields")],
)  # fmt: skip
def test_a_broken_run_is_named_with_its_line(tmp_path, text, said):
    (tmp_path / "run").write_text(text)
    with pytest.raises(InputError, match=said):
        read_run(tmp_path / "run")


def report(**values: float | None) -> Report:
    return Report([], [{"id": name, "metrics": {"map": v}} for name, v in values.items()])


def test_two_systems_are_paired_by_question():
    first = report(a=0.1, b=0.5, c=None, d=0.2)
    second = report(d=0.2, c=0.4, b=0.9, a=0.3, e=1.0)
    (difference,) = compare_reports(first, second, seed=3)
    expected = paired_bootstrap([0.1, 0.5, None, 0.2], [0.3, 0.9, 0.4, 0.2], seed=3)
    assert difference.name == "map" and difference.value == pytest.approx(0.2)
    assert (difference.low, difference.high) == (expected.low, expected.high)
    assert (difference.n, difference.unscored) == (3, 1)
    with pytest.raises(InputError, match="no common question"):
        compare_reports(first, report(z=1.0))
