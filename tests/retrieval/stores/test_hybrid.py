"""Words in an index and vectors in a store."""

from __future__ import annotations

import pytest
from hashing_embedder import HashingEmbedder

from llmwright.core import Document
from llmwright.retrieval import Index
from llmwright.retrieval.stores import fill_store, open_store, store_search

DOCUMENTS = [
    Document(f"d{n}", f"{a} and {b} are topics of page {n}.", metadata={"part": str(n % 2)})
    for n, (a, b) in enumerate([("amber", "basalt"), ("cedar", "amber"), ("dahlia", "fjord"),
                                ("amber", "heron"), ("garnet", "cedar"), ("ember", "amber")])
]  # fmt: skip


@pytest.fixture(params=["memory:", "lance:{}/v", "faiss:{}/v", "qdrant:{}/v"])
def both(request, tmp_path):
    embedder = HashingEmbedder()
    index = Index.create(tmp_path / "i", embedder)
    index.upsert(DOCUMENTS)
    store = open_store(request.param.format(tmp_path), embedder.dimension)
    assert fill_store(store, index) == store.count() == len(DOCUMENTS)
    assert fill_store(store, index) == store.count()
    yield index, store, embedder
    store.close()


def test_hits_are_those_of_the_index(both):
    index, store, embedder = both
    chunks = {chunk.id: chunk for chunk in index.chunks()}
    hits = store_search(store, index, embedder)("amber and cedar", 4)
    assert len(hits) == 4 and {"lexical", "dense"} == set().union(*(hit.ranks for hit in hits))
    assert all(hit.chunk == chunks[hit.chunk.id] for hit in hits)
    dense = {h.chunk.id: h.ranks["dense"] for h in index.search("amber", 6, mode="dense")}
    found = store_search(store, index, embedder)("amber", 6)
    assert {h.chunk.id: h.ranks["dense"] for h in found if "dense" in h.ranks} == dense


def test_a_filter_holds_on_both_sides(both):
    index, store, embedder = both
    search = store_search(store, index, embedder, filter={"part": "1"})
    hits = search("amber cedar dahlia", 10)
    assert hits and {hit.chunk.metadata["part"] for hit in hits} == {"1"}
    assert all(set(hit.chunk.metadata) == {"part"} for hit in hits)


def test_what_the_index_lost_is_not_found(both):
    index, store, embedder = both
    index.delete(["d0", "d3"])
    hits = store_search(store, index, embedder)("amber", 10)
    assert hits and not {"d0", "d3"} & {hit.chunk.document_id for hit in hits}


def test_no_vector_for_no_words(both):
    index, store, embedder = both
    assert store_search(store, index, embedder)("  ", 5) == []
