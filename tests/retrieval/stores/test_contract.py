"""One contract, held by every store that can run here."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmwright.core import ConfigurationError, InputError, MissingDependencyError
from llmwright.retrieval.stores import Entry, MemoryStore, VectorStore, open_store

DIMENSION = 8
# Sources of servers, separated by blanks, whose collections are emptied: "qdrant:http://host#tests".
SERVERS = tuple(os.environ.get("LLMWRIGHT_TEST_STORES", "").split())
KINDS = ("memory", "lance", "faiss", "faiss-hnsw", "faiss-ivf", "qdrant", "milvus", *SERVERS)
NASTY = ("a", "b'; DROP", 'c" or "1"=="1', "д-é-日本-🙂", "e\\'", "f\n\t", "g" * 300, "%_*")


def place(kind: str, folder) -> str:
    if kind in SERVERS:
        return kind
    names = {"memory": "memory:", "milvus": f"milvus:{folder}/store.db"}
    return names.get(kind, f"{kind}:{folder}/store")


def emptied(source: str) -> VectorStore:
    """A server keeps what an earlier test wrote."""
    store = open_store(source, DIMENSION)
    while store.count():
        store.delete([one.id for one in store.search(unit(1), 100)])
    return store


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def store(kind, tmp_path):
    opened = emptied(place(kind, tmp_path))
    yield opened
    opened.close()


def unit(*values: float) -> np.ndarray:
    vector = np.zeros(DIMENSION, np.float32)
    vector[: len(values)] = values
    return vector / np.linalg.norm(vector)


def vectors(count: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_it_is_a_store(store):
    assert isinstance(store, VectorStore) and store.dimension == DIMENSION
    assert store.count() == 0 and store.search(unit(1)) == []
    store.delete(["nobody"])
    store.upsert([])


def test_nearest_first_with_scores_and_metadata(store):
    store.upsert(
        [
            Entry("far", unit(0, 1), {"n": "3"}),
            Entry("near", unit(1, 0.1), {"n": "1"}),
            Entry("between", unit(1, 1), {"n": "2", "other": "x"}),
        ]
    )
    found = store.search(unit(1), 2)
    assert [one.id for one in found] == ["near", "between"]
    assert [one.score for one in found] == pytest.approx([0.995037, 0.707107], abs=2e-3)
    assert found[1].metadata == {"n": "2", "other": "x"}
    assert len(store.search(unit(1), 50)) == 3


def test_upsert_replaces_vector_and_metadata(store):
    store.upsert([Entry("a", unit(1), {"v": "1"}), Entry("b", unit(0, 1), {"v": "1"})])
    store.upsert([Entry("a", unit(0, 0, 1), {"v": "2"})])
    assert store.count() == 2
    (best, *_) = store.search(unit(0, 0, 1), 1)
    assert best.id == "a" and best.metadata == {"v": "2"}
    assert store.search(unit(1), 5, {"v": "1"})[0].id == "b"


def test_deleted_entries_are_gone(store):
    store.upsert([Entry(str(n), v) for n, v in enumerate(vectors(20))])
    store.delete([str(n) for n in range(15)] + ["unknown"])
    assert store.count() == 5
    assert {one.id for one in store.search(unit(1), 20)} == {"15", "16", "17", "18", "19"}
    store.upsert([Entry("3", unit(1), {"again": "yes"})])
    assert store.search(unit(1), 1)[0].metadata == {"again": "yes"}


def test_equal_entries_stand_in_the_order_of_their_ids(store):
    store.upsert([Entry(identity, unit(1)) for identity in ("c", "a", "b")])
    assert [one.id for one in store.search(unit(1, 0.5), 3)] == ["a", "b", "c"]


def test_ids_and_metadata_of_any_characters(store):
    entries = [Entry(text, v, {text: text}) for text, v in zip(NASTY, vectors(8), strict=True)]
    store.upsert(entries)
    for entry in entries:
        found = store.search(entry.vector, 8, {entry.id: entry.id})
        assert [one.id for one in found] == [entry.id]
        assert dict(found[0].metadata) == {entry.id: entry.id}
    store.delete(NASTY[:4])
    assert {one.id for one in store.search(unit(1), 8)} == set(NASTY[4:])


def test_a_filter_does_not_shorten_the_result_and_lets_nothing_slip(store):
    drawn = vectors(120, seed=1)
    store.upsert(
        [Entry(f"{n:03}", v, {"part": str(n % 3), "lot": str(n % 2)}) for n, v in enumerate(drawn)]
    )
    found = store.search(drawn[0], 15, {"part": "1", "lot": "0"})
    allowed = [n for n in range(120) if n % 3 == 1 and n % 2 == 0]
    exact = sorted(allowed, key=lambda n: -float(drawn[n] @ drawn[0]))[:15]
    assert [int(one.id) for one in found] == exact
    assert store.search(drawn[0], 5, {"part": "7"}) == []
    assert store.search(drawn[0], 5, {"nothing": "1"}) == []


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_history_is_that_of_the_reference(kind, tmp_path_factory, data):
    """Upserts and deletes at random: the same entries as in memory, whatever the filter."""
    reference = MemoryStore(DIMENSION)
    tried = emptied(place(kind, tmp_path_factory.mktemp("s")))
    drawn = vectors(200, seed=data.draw(st.integers(0, 99)))
    numbers = st.lists(st.integers(0, 39), unique=True, max_size=12)
    for step in range(data.draw(st.integers(1, 4))):
        entries = [
            Entry(f"e{n}", drawn[40 * step + n], {"colour": data.draw(st.sampled_from("rgb"))})
            for n in data.draw(numbers)
        ]
        gone = [f"e{n}" for n in data.draw(numbers)]
        for one in (reference, tried):
            one.upsert(entries)
            one.delete(gone)
    for filter in (None, {"colour": "r"}, {"colour": "b"}):
        expected = reference.search(drawn[-1], 40, filter)
        found = tried.search(drawn[-1], 40, filter)
        assert [one.id for one in found] == [one.id for one in expected]
        assert [o.score for o in found] == pytest.approx([o.score for o in expected], abs=2e-3)
    assert tried.count() == reference.count()
    tried.close()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_what_was_written_is_there_when_opened_again(kind, tmp_path):
    source = place(kind, tmp_path)
    first = emptied(source)
    first.upsert([Entry("a", unit(1), {"k": "v"}), Entry("b", unit(0, 1))])
    first.delete(["b"])
    first.close()
    again = open_store(source, DIMENSION)
    assert again.count() == 1 and again.search(unit(1))[0].metadata == {"k": "v"}
    again.close()
    with pytest.raises(InputError, match=f"dimension {DIMENSION}"):
        open_store(source, DIMENSION + 1)


def test_what_cannot_be_an_entry(store):
    good = Entry("a", unit(1))
    for bad, sentence in (
        ([Entry("", unit(1))], "the id is empty"),
        ([good, good], "the id is given twice"),
        ([Entry("b", np.ones(DIMENSION + 1, np.float32))], "dimension 8"),
        ([Entry("b", unit(1) * 2)], "does not have the length 1"),
        ([Entry("b", np.full(DIMENSION, np.nan, np.float32))], "does not have the length 1"),
        ([Entry("b", unit(1), {"k": 1})], "metadata hold 1"),
    ):
        with pytest.raises(InputError, match=sentence):
            store.upsert(bad)
    with pytest.raises(InputError, match="length 1"):
        store.search(np.zeros(DIMENSION, np.float32))
    with pytest.raises(ConfigurationError, match="top is 0"):
        store.search(unit(1), 0)
    assert store.count() == 0


@pytest.mark.parametrize("kind", ["weaviate", "pinecone"])
def test_a_client_that_is_missing_is_named(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, None)
    monkeypatch.delitem(sys.modules, f"llmwright.retrieval.stores.{kind}", raising=False)
    with pytest.raises(MissingDependencyError, match=f"{kind} needs {kind}") as caught:
        open_store(f"{kind}:somewhere", DIMENSION)
    assert f"pip install {kind}" in str(caught.value)


@pytest.mark.parametrize("source", ["", "lance", "lance:", "memory:x", "redis:there"])
def test_sources_that_name_no_store(source):
    with pytest.raises(ConfigurationError, match="names no vector store"):
        open_store(source, DIMENSION)
