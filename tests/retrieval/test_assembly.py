"""From settings to a search: each setting does what its technique does by itself."""

from __future__ import annotations

import pytest
from hashing_embedder import HashingEmbedder

from llmwright.core import ConfigurationError, Document
from llmwright.providers import ScriptedModel
from llmwright.retrieval import ChunkSettings, Fusion, Index
from llmwright.retrieval.assembly import SearchSettings, make_search
from llmwright.retrieval.rerank import neighbour_reranker, reranked

DOCUMENTS = [
    Document("old", "The rank of a LoRA adapter bounds its update.", metadata={"date": "1990"}),
    Document("new", "The rank of a LoRA adapter, and how to choose it.", metadata={"date": "2030"}),
    Document("copy", "The rank of a LoRA adapter bounds its update.", metadata={"date": "1990"}),
    Document("fusion", "Reciprocal ranks need no calibration of scores."),
]


@pytest.fixture
def index(tmp_path):
    index = Index.create(tmp_path / "i", HashingEmbedder())
    index.upsert(DOCUMENTS)
    return index


def found(index, query="rank of a LoRA adapter bounds", top=4, model=None, **settings):
    search = make_search(index, SearchSettings(**settings), model=model)
    return [hit.chunk.document_id for hit in search(query, top)]


def test_defaults_are_the_index_itself(index):
    assert make_search(index)("LoRA rank", 3) == index.search("LoRA rank", 3)


def test_mode_and_fusion(index):
    lexical = make_search(index, SearchSettings("lexical"))("LoRA rank", 3)
    assert lexical == index.search("LoRA rank", 3, mode="lexical")
    fusion = Fusion("weighted", weights={"lexical": 0.4, "dense": 0.6})
    assert make_search(index, SearchSettings(fusion=fusion))("LoRA", 3) == index.search(
        "LoRA", 3, fusion=fusion
    )


def test_a_filter_holds_through_every_step(index):
    settings = SearchSettings(expand="clauses", diversity=0.3, half_life=30, duplicates=0.9)
    search = make_search(index, settings, filter={"date": "1990"})
    hits = search("Which rank has LoRA, and do scores need calibration?", 10)
    assert {hit.chunk.document_id for hit in hits} <= {"old", "copy"}


def test_repeats_are_dropped_and_their_places_taken(index):
    assert sorted(found(index, top=2)) == ["copy", "old"]
    assert set(found(index, top=2, duplicates=0.9)) in ({"old", "new"}, {"copy", "new"})


def test_newer_hits_come_first_with_a_half_life(index):
    assert found(index)[0] in ("old", "copy")
    assert found(index, half_life=365)[0] == "new"


def test_variety_costs_the_repeat_its_place(index):
    assert set(found(index, top=2, diversity=0.9)) != {"old", "copy"}


def test_parts_of_a_question_are_asked_by_themselves(index):
    hits = make_search(index, SearchSettings(expand="clauses"))(
        "Do scores need calibration, and what bounds the update of an adapter?", 4
    )
    assert any("parts" in hit.ranks for hit in hits)


def test_a_model_is_asked_for_other_queries(index):
    model = ScriptedModel(lambda messages: "1. calibration of scores\n2. reciprocal ranks")
    hits = make_search(index, SearchSettings(expand="paraphrases"), model=model)("adapter", 4)
    assert any("rewriting 1" in hit.ranks for hit in hits)
    with pytest.raises(ConfigurationError, match="asks a chat model"):
        make_search(index, SearchSettings(expand="hyde"))


def test_reranking_sees_what_expansion_found_and_decides(index):
    def backwards(query, hits):
        seen.append((query, len(hits)))
        return range(len(hits))

    seen = []
    plain = [hit.chunk.id for hit in make_search(index)("LoRA rank", 4)]
    search = make_search(index, SearchSettings(rerank_depth=3), reranker=backwards)
    assert [hit.chunk.id for hit in search("LoRA rank", 2)] == plain[:3][::-1][:2]
    assert seen == [("LoRA rank", 3)]
    unheard = make_search(index, SearchSettings(rerank_weight=0), reranker=backwards)
    assert [hit.chunk.id for hit in unheard("LoRA rank", 4)] == plain


def test_hits_are_lent_scores_by_those_that_resemble_them(index):
    query = "rank of a LoRA adapter"
    alone = reranked(index.search, neighbour_reranker(0.6), 50)(query, 4)
    assert make_search(index, SearchSettings(neighbours=0.6))(query, 4) == alone
    assert [h.score for h in alone] != [h.score for h in index.search(query, 4)]


def test_children_are_given_as_their_parents(tmp_path):
    index = Index.create(
        tmp_path / "i",
        HashingEmbedder(),
        chunking=ChunkSettings("parent-child", 12, parent_size=60),
    )
    text = " ".join(f"Sentence {n} speaks of subject{n} at some length." for n in range(12))
    index.upsert([Document("d", text)])
    (hit, *_) = make_search(index)("subject7", 3)
    assert "subject7" in hit.chunk.text and len(hit.chunk.text) > 150
    assert text[hit.chunk.start : hit.chunk.end] == hit.chunk.text


@pytest.mark.parametrize(
    "wrong",
    [{"mode": "both"}, {"expand": "magic"}, {"rerank_depth": 0}, {"diversity": 1.0},
     {"duplicates": 1.1}, {"half_life": -1.0}],
)  # fmt: skip
def test_settings_out_of_range(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        SearchSettings(**wrong)
