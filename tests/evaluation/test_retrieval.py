from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import Chunk, ConfigurationError, Hit, InputError
from llmwright.data import Question
from llmwright.evaluation import (
    average_precision,
    evaluate_retrieval,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
)
from llmwright.evaluation.retrieval import finds


def hit(document: str, start: int, end: int, rank: int = 1) -> Hit:
    chunk = Chunk(f"{document}:{start}", document, "x" * (end - start), start, end)
    return Hit(chunk, 1.0 / rank, {"bm25": rank})


SPANS = {"a.md": ("a.md", 0, 1000), "a.md#x": ("a.md", 0, 100), "a.md#y": ("a.md", 100, 200)}


def question(*relevant: str, name: str = "q1") -> Question:
    return Question(name, f"about {name}?", "answer", relevant)


@pytest.mark.parametrize(
    ("chunk", "found"),
    [
        (("a.md", 0, 100), True),
        (("a.md", 50, 150), True),  # exactly half
        (("a.md", 51, 151), False),
        (("a.md", 0, 5000), True),  # a chunk that holds the whole span
        (("a.md", 90, 100), True),  # a small chunk wholly inside
        (("a.md", 95, 120), False),
        (("b.md", 0, 100), False),
        (("a.md", 100, 200), False),
    ],
)
def test_half_of_the_shorter_must_overlap(chunk: tuple[str, int, int], found: bool) -> None:
    document, start, end = chunk
    for moved in (0, 700):
        at = hit(document, start + moved, end + moved).chunk
        assert finds(at, ("a.md", moved, 100 + moved)) is found


def test_by_hand() -> None:
    hits = [
        hit("b.md", 0, 100, 1),
        hit("a.md", 0, 60, 2),
        hit("a.md", 60, 100, 3),
        hit("a.md", 110, 200, 4),
    ]
    report = evaluate_retrieval(
        lambda text, k: hits[:k], [question("a.md#x", "a.md#y")], SPANS.__getitem__, ks=(1, 3, 10)
    )
    figures = {score.name: score.value for score in report.scores}
    assert figures["recall@1"] == 0.0
    assert figures["recall@3"] == 0.5
    assert figures["recall@10"] == 1.0
    assert figures["precision@3"] == pytest.approx(2 / 3)  # both chunks of the first span
    assert figures["mrr@10"] == 0.5
    assert figures["map@10"] == (1 / 2 + 2 / 4) / 2
    best = 1 + 1 / math.log2(3)
    assert figures["ndcg@3"] == pytest.approx(1 / math.log2(3) / best)  # a span gains only once
    assert figures["ndcg@10"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / best)
    record = report.records[0]
    assert [h["relevant"] for h in record["hits"]] == [False, True, True, True]
    assert [h["id"] for h in record["hits"]] == ["b.md:0", "a.md:0", "a.md:60", "a.md:110"]
    assert record["found_at"] == [2, 4]
    assert record["hits"][1] == {
        "rank": 2, "id": "a.md:0", "document_id": "a.md", "relevant": True, "ranks": {"bm25": 2},
    }  # fmt: skip
    assert record.keys() == {"id", "question", "relevant", "found_at", "hits", "metrics"}
    assert record["relevant"] == ["a.md#x", "a.md#y"]


def test_one_chunk_with_both_spans_is_perfect() -> None:
    report = evaluate_retrieval(
        lambda text, k: [hit("a.md", 0, 200)], [question("a.md#x", "a.md#y")], SPANS.__getitem__
    )
    figures = {score.name: score.value for score in report.scores}
    assert figures["recall@1"] == figures["ndcg@3"] == figures["ndcg@1"] == figures["mrr@10"] == 1.0


def test_intervals_unscored_questions_and_wrong_labels() -> None:
    questions = [question("a.md", name="q1"), question("a.md#y", name="q2"), question(name="q3")]
    report = evaluate_retrieval(
        lambda text, k: [hit("a.md", 0, 100)], questions, SPANS.__getitem__, seed=1
    )
    recall = next(score for score in report.scores if score.name == "recall@5")
    assert (recall.value, recall.low, recall.high, recall.n, recall.unscored) == (
        0.5,
        0.0,
        1.0,
        2,
        1,
    )
    assert report.records[2]["metrics"]["recall@5"] is None

    def spans(label: str) -> tuple[str, int, int]:
        raise InputError(f"no section {label!r}")

    def search(text: str, k: int) -> Sequence[Hit]:
        raise AssertionError("labels are looked up before anything is searched")

    with pytest.raises(InputError, match=r"no section 'a\.md'"):
        evaluate_retrieval(search, questions, spans)
    for ks in ((), (0, 3)):
        with pytest.raises(ConfigurationError) as caught:
            evaluate_retrieval(search, questions, SPANS.__getitem__, ks=ks)
        said = f"retrieval evaluation: ks is {ks}; give whole numbers from 1 up."
        assert str(caught.value) == said


@given(
    st.permutations(range(8)),
    st.sets(st.integers(0, 9), min_size=1, max_size=4),
    st.sampled_from([1, 3, 5]),
)
def test_equals_the_common_metrics_where_each_chunk_is_a_gold_span(
    order: list[int], gold: set[int], k: int
) -> None:
    hits = [hit("d", 100 * i, 100 * i + 100) for i in order]
    report = evaluate_retrieval(
        lambda text, n: hits[:n],
        [question(*(str(i) for i in gold))],
        lambda label: ("d", 100 * int(label), 100 * int(label) + 100),
        ks=(k,),
    )
    figures = {score.name: score.value for score in report.scores}
    ranked, relevant = [str(i) for i in order], {str(i) for i in gold}
    assert figures == pytest.approx(
        {
            f"recall@{k}": recall_at_k(ranked, relevant, k),
            f"precision@{k}": precision_at_k(ranked, relevant, k),
            f"ndcg@{k}": ndcg_at_k(ranked, relevant, k),
            f"mrr@{k}": reciprocal_rank(ranked, relevant, k),
            f"map@{k}": average_precision(ranked, relevant, k),
        }
    )


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 200)), max_size=6),
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 200)), min_size=1, max_size=4),
)
def test_every_figure_lies_between_0_and_1(
    chunks: list[tuple[int, int]], gold: list[tuple[int, int]]
) -> None:
    hits = [hit("d", start, start + size) for start, size in chunks]
    report = evaluate_retrieval(
        lambda text, k: hits[:k],
        [question(*(str(i) for i in range(len(gold))))],
        lambda label: ("d", gold[int(label)][0], sum(gold[int(label)])),
    )
    assert all(s.value is not None and 0.0 <= s.value <= 1.0 + 1e-12 for s in report.scores)
