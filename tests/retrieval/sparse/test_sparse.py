"""The inverted index against dense products, MaxSim against its definition, and both as searches
that filter before they rank and join a hybrid."""

from __future__ import annotations

import numpy as np
import pytest
from hashing_embedder import HashingEmbedder
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llmwright.core import Chunk, Document
from llmwright.embeddings.sparse import SparseVectors
from llmwright.retrieval import Fusion, Index
from llmwright.retrieval.sparse.inverted import InvertedIndex
from llmwright.retrieval.sparse.late import TokenVectorStore
from llmwright.retrieval.sparse.retrievers import LateRetriever, SparseRetriever, joined

MATRIX = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 8), st.just(6)), elements=st.integers(0, 3).map(float)
)


def sparse(matrix) -> SparseVectors:
    rows = [np.flatnonzero(row).astype(np.int32) for row in matrix]
    return SparseVectors.of_rows((t, row[t]) for t, row in zip(rows, matrix, strict=True))


@given(MATRIX, hnp.arrays(np.float32, 6, elements=st.integers(0, 3).map(float)), st.data())
def test_the_inverted_index_is_the_dense_product(matrix, query, data):
    index = InvertedIndex.build(sparse(matrix))
    terms, weights = sparse(query[None]).row(0)
    terms, weights = np.append(terms, 99).astype(np.int32), np.append(weights, 1).astype(np.float32)
    expected = matrix @ query
    assert index.scores(terms, weights).tolist() == expected.tolist() and len(index) == len(matrix)
    allowed = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(matrix), max_size=len(matrix)))
    )
    top = data.draw(st.integers(1, 9))
    found = index.search(terms, weights, top, allowed)
    best = sorted((i for i in range(len(matrix)) if allowed[i] and expected[i] > 0),
                  key=lambda i: (-expected[i], i))[:top]  # fmt: skip
    assert found == [(i, float(expected[i])) for i in best]


def test_saved_arrays_search_the_same(tmp_path):
    matrix = np.random.default_rng(0).random((5, 6), np.float32)
    index = InvertedIndex.build(sparse(matrix))
    index.save(tmp_path / "i")
    query = sparse(matrix[2:3]).row(0)
    assert InvertedIndex.load(tmp_path / "i").search(*query, 3) == index.search(*query, 3)
    store = TokenVectorStore.build([unit(3, 4), unit(0, 4), unit(2, 4)])
    store.save(tmp_path / "s")
    assert TokenVectorStore.load(tmp_path / "s").search(unit(2, 4), 3) == store.search(
        unit(2, 4), 3
    )


def unit(tokens: int, dimension: int = 16, seed: int = 0):
    vectors = np.random.default_rng(seed + tokens).normal(size=(tokens, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(1, 4), st.data())
def test_maxsim_is_its_definition(lengths, asked, data):
    """By the whole matrix of cosines, to what one byte a component can tell."""
    rows = [unit(n, seed=i) for i, n in enumerate(lengths)]
    store, query = TokenVectorStore.build(rows), unit(asked, seed=99)
    expected = [float((query @ row.T).max(axis=1).mean()) if len(row) else -1.0 for row in rows]
    every = np.arange(len(rows))
    assert store.scores(query, every) == pytest.approx(expected, abs=0.01)
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    assert store.scores(query, order).tolist() == store.scores(query, every)[order].tolist()
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    found = store.search(query, 3, allowed)
    holding = [i for i in range(len(rows)) if allowed[i] and lengths[i]]
    assert {i for i, _ in found} <= set(holding) and len(found) == min(3, len(holding))
    assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)
    assert store.nbytes == sum(lengths) * (16 + 4)


def test_many_tokens_are_taken_in_parts(monkeypatch):
    rows, query = [unit(n % 7, seed=n) for n in range(40)], unit(3)
    whole = TokenVectorStore.build(rows).search(query, 40)
    monkeypatch.setattr("llmwright.retrieval.sparse.late._TOKENS_AT_ONCE", 10)
    assert TokenVectorStore.build(rows).search(query, 40) == whole
    assert TokenVectorStore.build(rows).search(query[:0], 3) == []
    assert TokenVectorStore.build([]).search(query, 3) == []


class Words:
    """A vocabulary of the words seen; each weighs 1, or has a vector of its own."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def ids(self, text: str) -> list[int]:
        return [self._numbers.setdefault(w, len(self._numbers)) for w in text.lower().split()]

    def encode(self, texts) -> SparseVectors:
        rows = [np.unique(np.array(self.ids(text), np.int32)) for text in texts]
        return SparseVectors.of_rows((terms, np.ones(len(terms), np.float32)) for terms in rows)

    def documents(self, texts):
        return [np.eye(32, dtype=np.float32)[self.ids(text)] for text in texts]

    queries = documents


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    index = Index.create(tmp_path_factory.mktemp("sparse") / "i", HashingEmbedder())
    texts = ["cat on mat", "cat cat cat cat", "dog in garden", "moon over garden wall"]
    index.upsert(
        Document(f"d{n}", text, metadata={"odd": str(n % 2)}) for n, text in enumerate(texts)
    )
    return index


@pytest.mark.parametrize("kind", [SparseRetriever, LateRetriever])
def test_a_retriever_searches_like_an_index(index, kind):
    retriever = kind(index.chunks(), Words())
    hits = retriever.search("cat mat", 2)
    assert hits[0].chunk.document_id == "d0" and len(hits) == 2
    assert dict(hits[0].ranks) == {kind.__name__.removesuffix("Retriever").lower(): 1}
    for filter in ({"odd": "1"}, lambda chunk: chunk.metadata["odd"] == "1"):
        found = retriever.search("cat mat", 9, filter=filter)
        assert found and all(hit.chunk.metadata["odd"] == "1" for hit in found)
    assert retriever.search("cat", filter={"document_id": "d2", "odd": "1"}) == []


def test_late_interaction_orders_a_shortlist(index):
    late = LateRetriever([c for c in index.chunks() if c.document_id != "d3"], Words())
    search = late.reranked(index.search, depth=4)
    hits = search("dog garden", 4)
    assert hits[0].chunk.document_id == "d2" and hits[0].ranks["late"] == 1
    assert hits[0].score == pytest.approx(1.0, abs=0.01)
    assert hits[-1].chunk.document_id == "d3" and "late" not in hits[-1].ranks
    assert {h.chunk.id for h in hits} == {h.chunk.id for h in index.search("dog garden", 4)}


def test_a_further_vote_joins_the_hybrid(index):
    def stranger(query, top=10, *, filter=None):
        return [type(hits[0])(Chunk("not indexed", "x", "x", 0, 1), 9.0), *hits][:top]

    sparse = SparseRetriever(index.chunks(), Words())
    hits = sparse.search("moon", 1)
    only = Fusion(weights={"lexical": 0, "dense": 0})
    search = joined(index, {"sparse": sparse.search}, only)
    assert [h.chunk.id for h in search("moon", 5)] == [h.chunk.id for h in hits]
    assert joined(index, {}, Fusion())("cat", 4) == index.search("cat", 4)
    both = joined(index, {"sparse": sparse.search, "late": stranger}, filter={"odd": "1"})
    found = both("moon cat", 9)
    assert {"sparse", "lexical"} <= found[0].ranks.keys()
    assert all(hit.chunk.metadata["odd"] == "1" for hit in found)
