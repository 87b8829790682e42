import pytest

from llmwright.build import check_gates, headline, parse_gate, require_gates
from llmwright.core import GateError, RecipeError, Score


def held(gate, value):
    scores = {} if value == "absent" else {"mrr@10": Score("mrr@10", value)}
    return check_gates([parse_gate(gate)], scores)[0]


@pytest.mark.parametrize(
    ("gate", "value", "passed"),
    [("mrr@10 >= 0.8", 0.8, True), ("mrr@10 >= 0.8", 0.79, False), ("mrr@10 > 0.8", 0.8, False),
     ("mrr@10 <= 0.8", 0.8, True), ("mrr@10 < 0.8", 0.8, False), ("mrr@10<0.8", 0.7, True)],
)  # fmt: skip
def test_the_comparison_is_the_one_written(gate, value, passed):
    assert held(gate, value).passed is passed


@pytest.mark.parametrize("value", [None, "absent"])
def test_an_unscored_metric_does_not_pass(value):
    result = held("mrr@10 >= 0", value)
    assert not result.passed
    assert "could not be computed" in str(result)


def test_a_failed_gate_says_by_how_much_and_exits_with_1():
    with pytest.raises(
        GateError, match=r"mrr@10 >= 0\.8 not met: 0\.700, short by 0\.100"
    ) as caught:
        require_gates([held("mrr@10 >= 0.8", 0.7), held("mrr@10 >= 0.6", 0.7)], "report.html")
    assert caught.value.exit_code == 1
    assert str(caught.value).startswith("report.html: 1 of 2 gates failed: ")
    assert caught.value.fix == "see the report there for the questions that went wrong"
    with pytest.raises(GateError, match=r"2 of 2 gates failed: mrr.*; mrr"):
        require_gates([held("mrr@10 >= 0.8", 0.7)] * 2, "report.html")
    require_gates([held("mrr@10 >= 0.6", 0.7)], "report.html")


@pytest.mark.parametrize(
    ("text", "message"),
    [("mrr@10 ~ 3", "is not a gate"), ("mrr@10 >=", "is not a gate"), ("", "is not a gate"),
     ("recal@5 >= 0.8", "did you mean 'recall@5'"), ("beauty > 1", "metrics: recall@1")],
)  # fmt: skip
def test_a_gate_that_cannot_be_read_is_explained(text, message):
    with pytest.raises(RecipeError, match=message):
        parse_gate(text)


@pytest.mark.parametrize(
    ("text", "gate"),
    [("recall@5>=.5", None), (" recall@5  >=  0.5 ", ("recall@5", ">=", 0.5)),
     ("perplexity < 12", ("perplexity", "<", 12.0)), ("token_f1 > -1.5", ("token_f1", ">", -1.5)),
     ("token_f1 >= 1e-3", None), ("token_f1 == 1", None)],
)  # fmt: skip
def test_how_a_gate_is_written(text, gate):
    if gate is None:
        with pytest.raises(RecipeError, match=r"is not a gate; write it as 'recall@5 >= 0\.8'"):
            parse_gate(text)
    else:
        parsed = parse_gate(text)
        assert (parsed.metric, parsed.compare, parsed.bound) == gate
        assert str(parsed) == f"{gate[0]} {gate[1]} {gate[2]:g}"


def test_the_scores_a_person_looks_at_first():
    names = [
        "recall@5",
        "precision@5",
        "ndcg@1",
        "ndcg@3",
        "ndcg@5",
        "ndcg@10",
        "mrr@10",
        "token_f1",
    ]
    shown = [score.name for score in headline(Score(name, 1.0) for name in names)]
    assert shown == ["recall@5", "ndcg@10", "mrr@10", "token_f1"]


def test_a_gate_that_is_met_says_so():
    assert str(held("mrr@10 >= 0.6", 0.7)) == "mrr@10 >= 0.6 met: 0.700"
