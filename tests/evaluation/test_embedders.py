"""Quality by dimension and the choice of an embedder, on vectors whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from llmwright.core import Chunk, ConfigurationError, Document, InputError, Score
from llmwright.data import Question
from llmwright.evaluation import (
    Candidate,
    compare_embedders,
    draw_dimensions,
    draw_embedders,
    measure_dimensions,
    ndcg_at_k,
    recommended,
)

SIZE = 16


def judged(count=40, seed=0):
    """Chunks of documents d0, d1, ...; question i is a noisy copy of vector i."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, SIZE)).astype(np.float32)
    queries = vectors + 0.4 * rng.normal(size=vectors.shape).astype(np.float32)
    for array in (vectors, queries):
        array /= np.linalg.norm(array, axis=1, keepdims=True)
    chunks = [
        Chunk(id=f"c{i}", document_id=f"d{i}", text=f"text {i}", start=0, end=6)
        for i in range(count)
    ]
    questions = [Question(f"q{i}", f"question {i}", "", (f"d{i}",)) for i in range(count)]
    return chunks, vectors, queries, questions


def spans(label):
    return label, 0, 6


def test_forms_are_what_a_ranking_by_hand_says() -> None:
    chunks, vectors, queries, questions = judged()
    forms = measure_dimensions(
        chunks, vectors, queries, questions, spans, dimensions=[4, SIZE, 2], shortlist=10
    )
    assert [(f.name, f.shortlist) for f in forms[:5]] == [
        ("full", 0), ("4 of 16", 0), ("4 of 16", 10), ("2 of 16", 0), ("2 of 16", 10)
    ]  # fmt: skip

    def by_hand(k: int, again: bool) -> float:
        found = []
        for i, query in enumerate(queries):
            short = vectors[:, :k] / np.linalg.norm(vectors[:, :k], axis=1, keepdims=True)
            rows = np.argsort(-(short @ query[:k]), kind="stable")[:10]
            if again:
                rows = rows[np.argsort(-(vectors[rows] @ query), kind="stable")]
            found.append(ndcg_at_k([f"d{r}" for r in rows], [f"d{i}"], 10))
        return float(np.mean(found))

    for form, (k, again) in zip(forms, [(16, 0), (4, 0), (4, 1), (2, 0), (2, 1)], strict=False):
        assert form.score("ndcg@10").value == pytest.approx(by_hand(k, bool(again)))
        assert form.bytes == 4 * k
    full, short = forms[0], forms[1]
    assert short.kept(full) == pytest.approx(by_hand(4, False) / by_hand(16, False))
    difference = short.differences[0]
    assert difference.value == pytest.approx(by_hand(4, False) - by_hand(16, False))
    assert difference.low <= difference.value <= difference.high < 0
    assert full.differences[0].value == 0
    sizes = {f.name: f.bytes for f in forms}
    assert sizes["INT8"] == 20 and sizes["signs"] == 8
    assert all(f.kind == "coded" for f in forms[5:])


def test_a_whole_shortlist_loses_nothing() -> None:
    chunks, vectors, queries, questions = judged()
    forms = measure_dimensions(
        chunks, vectors, queries, questions, spans, dimensions=[1], shortlist=40
    )
    assert all(f.kept(forms[0]) == 1 for f in forms if f.shortlist)


def test_unscored_is_not_a_number_nor_one(tmp_path) -> None:
    chunks, vectors, queries, questions = judged()
    without = [Question(q.id, q.question, "", ()) for q in questions]
    forms = measure_dimensions(chunks, vectors, queries, without, spans, dimensions=[4])
    assert {f.score("ndcg@10").value for f in forms} == {None}
    assert {f.kept(forms[0]) for f in forms} == {None}
    draw_dimensions(forms, tmp_path / "a.svg")


@pytest.mark.parametrize("wrong", [{"dimensions": [17]}, {"dimensions": [0]}, {"shortlist": 9}])
def test_what_the_vectors_do_not_have(wrong) -> None:
    options = {"dimensions": [4], **wrong}
    with pytest.raises(ConfigurationError, match="from 1 to 16, and a shortlist of at least 10"):
        measure_dimensions(*judged(), spans, **options)


def candidate(source, speed, low, value, high):
    score = Score("ndcg@10", 0.5 + value, None, None, 20)
    return Candidate(
        source, 8, 32, 100, speed,
        {"hybrid": score, "dense": score},
        dict.fromkeys(("hybrid", "dense"), Score("ndcg@10", value, low, high, 20)),
    )  # fmt: skip


def test_the_recommendation() -> None:
    first = candidate("first", 10, 0, 0, 0)
    better = candidate("better", 1, 0.01, 0.05, 0.1)
    best = candidate("best", 1, 0.02, 0.08, 0.1)
    alike = candidate("alike", 50, -0.02, -0.01, 0.01)
    worse = candidate("worse", 99, -0.09, -0.05, -0.01)
    assert recommended([first, worse]) is first
    assert recommended([first, worse, alike]) is alike, "faster, and not told apart"
    assert recommended([first, better, best, alike]) is best


def test_candidates_on_documents(tmp_path) -> None:
    class Letters:
        name, languages, fingerprint = "letters", None, ""

        def __init__(self, dimension):
            self.dimension = dimension

        def embed(self, texts, *, kind="document"):
            counts = np.array(
                [
                    [t.lower().count(chr(97 + i)) + 0.01 for i in range(self.dimension)]
                    for t in texts
                ],
                np.float32,
            )
            return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    words = ["cabbage", "zebra", "mill", "toast"]
    documents = [Document(w, f"{w} {w}") for w in words]
    questions = [Question(w, f"{w}?", "", (w,)) for w in words]
    found = compare_embedders(
        ["a", "b"], documents, questions, lambda source: Letters(26 if source == "a" else 2)
    )
    assert [c.dimension for c in found] == [26, 2] and found[0].passages == 4
    assert found[0].scores["dense"].value == 1 > found[1].scores["dense"].value
    assert found[1].differences["dense"].value < 0 == found[0].differences["dense"].value
    draw_embedders(found, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
    with pytest.raises(InputError, match="nothing to compare"):
        compare_embedders([], documents, questions, lambda source: Letters(2))
