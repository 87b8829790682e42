"""Training data: records, batches, what is relevant to what, pairs from documents, mining."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError, Document, InputError, write_jsonl
from llmwright.embeddings.training import (
    Pair,
    document_pairs,
    mine_negatives,
    principal_rotation,
    read_pairs,
    vector_ranking,
)
from llmwright.embeddings.training.pairs import Relevance, batches


def written(tmp_path, *records):
    write_jsonl(tmp_path / "pairs.jsonl", records)
    return tmp_path / "pairs.jsonl"


def test_the_forms_of_a_record(tmp_path) -> None:
    path = written(
        tmp_path,
        {"query": "q", "positive": "p"},
        {"query": "q", "positive": "p", "negative": "n", "group": 7},
        {"query": "q", "positive": "p", "negative": ["n", "m"], "margin": 0.5},
        {"a": "x", "b": "y", "score": 1},
    )
    assert read_pairs(path, "ranking") == [
        Pair("q", "p"),
        Pair("q", "p", ("n",), group="7"),
        Pair("q", "p", ("n", "m"), margin=0.5),
        Pair("x", "y", score=1),
    ]
    path = written(tmp_path, {"text": "t"}, {"text": "t", "translation": "u"})
    assert read_pairs(path, "distillation") == [Pair("t", "t"), Pair("t", "u")]


@pytest.mark.parametrize(
    ("record", "objective", "said"),
    [
        ({"query": "q"}, "ranking", "'positive' is missing"),
        ({"query": " ", "positive": "p"}, "ranking", "'query' is empty"),
        ({"query": "q", "positive": 3}, "ranking", "'positive' is a number"),
        ({"query": "q", "positive": "p", "negative": [1]}, "ranking", "'negative' is a list"),
        ({"a": "x", "b": "y"}, "cosent", 'cosent needs "score"'),
        ({"a": "x", "b": "y", "score": "1"}, "cosent", "'score' is a text"),
        ({"a": "x", "b": "y", "score": True}, "cosent", "'score' is true"),
        ({"query": "q", "positive": "p"}, "triplet", 'triplet needs "negative"'),
        ({"query": "q", "positive": "p"}, "margin-mse", 'margin-mse needs "negative"'),
        ({"query": "q", "positive": "p"}, "distillation", "'text' is missing"),
        ({"text": "t"}, "ranking", "'query' is missing"),
    ],
)
def test_a_record_that_does_not_fit(tmp_path, record, objective, said) -> None:
    path = written(tmp_path, record)
    with pytest.raises(InputError, match=said) as failure:
        read_pairs(path, objective)
    assert failure.value.where == f"{path}, line 1"


@given(st.integers(2, 60), st.integers(2, 20), st.integers(0, 3), st.integers(0, 3))
def test_batches_hold_every_place_once_and_none_alone(count, size, epoch, seed) -> None:
    made = list(batches(count, size, epoch, seed))
    assert sorted(place for batch in made for place in batch) == list(range(count))
    sizes = {len(batch) for batch in made}
    assert min(sizes) >= 2 and max(sizes) - min(sizes) <= 1
    assert max(sizes) <= size or (size, max(sizes)) == (2, 3)
    assert made == list(batches(count, size, epoch, seed))


def test_each_epoch_has_an_order_of_its_own() -> None:
    assert list(batches(20, 20, 0, 0)) != list(batches(20, 20, 1, 0))


def test_what_other_records_say_counts() -> None:
    a, b = Pair("q", "one", ("two", "three")), Pair("r", "two", group="g")
    c, d = Pair("q", "two"), Pair("s", "four", group="g")
    known = Relevance([a, b, c, d]).known([a, b, d])
    # documents: one, two, four, then a's negatives: two (which c calls relevant to q), three
    assert known.tolist() == [
        [True, True, False, True, False],
        [False, True, True, True, False],
        [False, True, True, False, False],
    ]


def test_pairs_from_documents() -> None:
    text = "A title. " + " ".join(
        f"Sentence number {i} says something of its own." for i in range(40)
    )
    documents = [Document("a", text, title="A title."), Document("b", "Short.", title="Both")]
    made = document_pairs(documents, seed=1)
    assert made == document_pairs(documents, seed=1) != document_pairs(documents, seed=2)
    assert {pair.group for pair in made} == {"a", "b"}
    titles = document_pairs(documents, ["title"])
    assert [(p.query, p.positive) for p in titles] == [
        ("A title.", text.removeprefix("A title. ")), ("Both", "Short.")
    ]  # fmt: skip
    sentences = document_pairs(documents, ["sentence"], per_document=40)
    assert len(sentences) == 40
    kept = sum(pair.query in pair.positive for pair in sentences)
    assert 0 < kept < 12, "one of ten stays in its passage"
    assert all(pair.positive.startswith("A title.\n") for pair in sentences)
    assert len(document_pairs(documents, ["neighbour"], per_document=2)) == 2
    with pytest.raises(ConfigurationError, match="'haiku' is no kind"):
        document_pairs(documents, ["haiku"])


class Letters:
    """An embedder by counts of letters."""

    name, dimension, languages = "letters", 26, None

    def embed(self, texts, *, kind="document"):
        counts = np.array([[t.count(chr(97 + i)) for i in range(26)] for t in texts], np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def test_mining_passes_over_what_is_relevant_or_as_near() -> None:
    documents = ["aaab", "aaaab", "aabb", "abbb", "cccc"]
    ranking = vector_ranking(Letters(), documents)
    assert list(ranking("aaaa", 3)) == ["aaaab", "aaab", "aabb"]
    pairs = [Pair("aaaa", "aaab"), Pair("aaaa", "abbb", ("mine",))]

    def mined(**options) -> list[tuple[str, ...]]:
        return [p.negatives for p in mine_negatives(pairs, ranking, Letters(), **options)]

    # Of the five, two are relevant to the query whichever pair says so; 0.97 and 0.71 are left.
    assert mined(count=5, share=None) == [
        ("aaaab", "aabb", "cccc"), ("mine", "aaaab", "aabb", "cccc")
    ]  # fmt: skip
    assert mined(count=1, share=0.95) == [("aabb",), ("mine", "cccc")]
    assert mined(count=1, share=None, margin=0.5) == [("cccc",), ("mine",)]
    assert mined(count=1, share=None, skip=3) == [("cccc",), ("mine", "cccc")]
    with pytest.raises(ConfigurationError, match="depth above skip"):
        mined(skip=50)


def test_the_rotation_is_that_of_principal_components() -> None:
    decomposition = pytest.importorskip("scipy.linalg").svd
    sample = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32) * [9, 1, 5, 2, 3, 4]
    turn = principal_rotation(sample)
    np.testing.assert_allclose(turn @ turn.T, np.eye(6), atol=1e-6)
    _, _, rows = decomposition(sample - sample.mean(0))
    np.testing.assert_allclose(np.abs(np.sum(turn * rows, axis=1)), 1, atol=1e-5)
    assert torch.tensor(turn).dtype == torch.float32
