"""A filter never leaks: whatever the corpus, the mode, the fusion and what is done to the hits, a
chunk the filter refuses is not found; and what it lets through is found for a word it holds."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from hashing_embedder import HashingEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import Chunk, Document
from llmwright.retrieval import Fusion, Index
from llmwright.retrieval.ranking.decay import time_decay
from llmwright.retrieval.ranking.diversity import maximal_marginal_relevance
from llmwright.retrieval.ranking.duplicates import drop_near_duplicates
from llmwright.retrieval.ranking.rearrange import rearranged

WORDS = ["cat", "moon", "wing", "model", "weight", "кошка", "луна", "secret"]
GROUPS = ["public", "staff", "board"]
FUSIONS = [
    Fusion(),
    Fusion(weights={"lexical feedback": 0, "dense feedback": 0}),
    Fusion("weighted", weights={"lexical": 0.4, "dense": 0.6}),
    Fusion("weighted", normalisation="zscore"),
    Fusion("weighted", weights={"dense": 0}, normalisation="minmax"),
]

TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)
DOCUMENT = st.tuples(TEXT, st.sampled_from(GROUPS), st.booleans())


def corpus(drawn) -> list[Document]:
    return [
        Document(
            f"d{n}", text, metadata={"group": group} | ({"date": f"20{n:02}"} if dated else {})
        )
        for n, (text, group, dated) in enumerate(drawn)
    ]


def changes():
    now = datetime(2024, 1, 1)
    embedder = HashingEmbedder()
    return [
        lambda hits: time_decay(hits, half_life=timedelta(days=9), now=now, undated=0),
        lambda hits: maximal_marginal_relevance(hits, 9, balance=0.3),
        lambda hits: maximal_marginal_relevance(hits, 9, embedder=embedder),
        drop_near_duplicates,
    ]


@settings(max_examples=30)
@given(st.lists(DOCUMENT, min_size=2, max_size=9), st.data())
def test_what_a_filter_refuses_is_never_found(drawn, data):
    documents = corpus(drawn)
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "i", HashingEmbedder(), chunk_size=16, chunk_overlap=0)
        cut = data.draw(st.integers(0, len(documents)))
        was = [
            replace(d, metadata={"group": data.draw(st.sampled_from(GROUPS))}) for d in documents
        ]
        for batch in (was[:cut], documents[cut:], documents[:cut]):  # of another group before
            index.upsert(batch)
        gone = data.draw(st.sets(st.sampled_from([d.id for d in documents]), max_size=2))
        index.delete(gone)
        group = data.draw(st.sampled_from(GROUPS))
        allowed_ids = data.draw(st.sets(st.sampled_from([d.id for d in documents])))

        def by_function(chunk: Chunk) -> bool:
            return chunk.document_id in allowed_ids

        filters = [
            ({"group": group}, lambda chunk: chunk.metadata["group"] == group),
            ({"group": group, "language": "en"}, None),
            ({"group": "nobody"}, lambda chunk: False),
            (by_function, by_function),
        ]
        fusion = data.draw(st.sampled_from(FUSIONS))
        change = data.draw(st.permutations(changes()))
        # A refused chunk's own text is the query for which it would score highest.
        queries = [documents[0].text, data.draw(TEXT)]
        for filter, passes in filters:
            if passes is None:

                def passes(chunk: Chunk) -> bool:
                    return chunk.metadata["group"] == group and chunk.language == "en"

            for mode in ("hybrid", "lexical", "dense"):

                def search(query, top, filter=filter, mode=mode):
                    return index.search(query, top, mode=mode, filter=filter, fusion=fusion)

                for query in queries:
                    for asked in (search, rearranged(search, *change)):
                        for top in (1, 9):
                            hits = asked(query, top)
                            assert all(passes(hit.chunk) for hit in hits)
                            assert not {hit.chunk.document_id for hit in hits} & gone
                            assert len({hit.chunk.id for hit in hits}) == len(hits) <= top
            kept = {chunk.id for chunk in index.chunks() if passes(chunk)}
            for rankings in index.rankings(queries, filter=filter, fusion=fusion):
                for ranking in rankings.values():
                    assert {chunk for chunk, _ in ranking} <= kept


@settings(max_examples=25)
@given(st.lists(DOCUMENT, min_size=2, max_size=9), st.sampled_from(FUSIONS), st.data())
def test_what_a_filter_lets_through_is_found_for_a_word_it_holds(drawn, fusion, data):
    """However many refused chunks hold the word more often: the filter comes before the ranking."""
    word = "secret"
    flood = [(f"{word} " * 6, "board", False)] * 30
    documents = corpus([*drawn, *flood, (f"cat {word}", "staff", True)])
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "i", HashingEmbedder())
        index.upsert(documents)
        group = data.draw(st.sampled_from(["public", "staff"]))
        kept = {d.id for d in documents if d.metadata["group"] == group}
        holding = {d.id for d in documents if d.id in kept and word in d.text}
        for mode in ("lexical", "hybrid"):
            top = len(holding) if mode == "lexical" else max(1, len(kept))
            hits = index.search(
                word, max(1, top), mode=mode, filter={"group": group}, fusion=fusion
            )
            assert holding <= {hit.chunk.document_id for hit in hits} <= kept
