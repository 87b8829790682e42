"""The index: any history of changes equals a fresh build; filters never leak; votes by language."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hashing_embedder import HashingEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import ConfigurationError, Document, InputError, Section
from llmwright.embeddings import load_embedder
from llmwright.retrieval import ChunkSettings, Index, search_documents

TEXTS = [
    "The cat sat on the mat and looked at the moon.",
    "A dog chased the cat around the garden until noon.",
    "Low-rank adaptation freezes the weights of the model.",
    "Quantization stores the weights of a model in four bits.",
    "Кошка сидела на ковре и смотрела на луну.",
    "Низкоранговая адаптация замораживает веса модели.",
    "大语言模型的量化方法",
]
QUERIES = [
    "cat on the moon",
    "weights of the model",
    "веса моделей",
    "кошки",
    "量化",
    "nothing here",
]


def documents(*numbers: int) -> list[Document]:
    return [Document(f"d{i}", TEXTS[i], metadata={"odd": str(i % 2)}) for i in numbers]


def build(folder: Path, *parts: list[Document], **options) -> Index:
    index = Index.create(folder, options.pop("embedder", HashingEmbedder()), **options)
    for part in parts:
        index.upsert(part)
    return index


def found(index: Index, mode: str = "hybrid", **options):
    return [index.search(query, mode=mode, **options) for query in QUERIES]


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    return build(tmp_path_factory.mktemp("module") / "i", documents(*range(7)))


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_history_equals_a_fresh_build(data):
    """Adds, updates and deletes in any order: same results and digest as the final documents."""
    with tempfile.TemporaryDirectory() as folder:
        index, current = build(Path(folder) / "a"), {}
        for _ in range(data.draw(st.integers(1, 4))):
            if data.draw(st.booleans()) or not current:
                ids = st.sampled_from(["a", "b'", "c", "д"])
                batch = data.draw(st.dictionaries(ids, st.sampled_from(TEXTS), min_size=1))
                changes = index.upsert([Document(i, text) for i, text in batch.items()])
                assert set(changes.added) == batch.keys() - current.keys()
                kept = {i for i in batch if current.get(i) == batch[i]}
                assert set(changes.unchanged) == kept
                assert set(changes.updated) == (batch.keys() & current.keys()) - kept
                current |= batch
            else:
                gone = data.draw(st.sampled_from(sorted(current)))
                assert index.delete([gone, "unknown"]) == 1
                del current[gone]
        final = [Document(i, current[i]) for i in sorted(current, reverse=True)]
        fresh = build(Path(folder) / "b", final)
        assert index.digest() == fresh.digest() == Index.open(Path(folder) / "a").digest()
        assert list(index.chunks()) == list(fresh.chunks())
        assert list(index.documents()) == list(fresh.documents())
        assert [d.text for d in index.documents()] == [current[i] for i in sorted(current)]
        for mode in ("hybrid", "lexical", "dense"):
            assert found(index, mode) == found(fresh, mode)


def test_only_what_changed_is_embedded(tmp_path):
    embedder = HashingEmbedder()
    index = build(tmp_path / "i", documents(0, 1, 2), embedder=embedder)
    assert len(embedder.embedded) == 3
    index.upsert([*documents(0, 1), Document("d2", "Changed text.")])
    assert embedder.embedded[3:] == ["Changed text."]


def test_the_digest_sees_texts_settings_and_embedders(tmp_path):
    variants = [
        build(tmp_path / "a", documents(0, 1)),
        build(tmp_path / "b", documents(0, 2)),
        build(tmp_path / "c", documents(0, 1), chunk_size=100),
        build(tmp_path / "d", documents(0, 1), embedder=HashingEmbedder(seed=1)),
        build(tmp_path / "e", documents(0, 1), embedder=HashingEmbedder(fingerprint="f")),
    ]
    assert len({index.digest() for index in variants}) == len(variants)


def test_the_embedder_votes_only_in_languages_it_knows(index):
    assert all("dense" not in hit.ranks for hit in index.search("веса моделей"))
    assert index.search("веса моделей", mode="dense") == []
    assert index.search("веса моделей")[0].chunk.document_id == "d5"
    languages = {hit.chunk.language for hit in index.search("weights of the model", mode="dense")}
    assert languages == {"en"}
    assert index.search("weights of the model")[0].ranks.keys() >= {"lexical", "dense"}


def test_an_embedder_of_any_language_votes_on_all(tmp_path):
    index = build(tmp_path / "i", documents(*range(7)), embedder=HashingEmbedder(languages=None))
    assert len(index.search("веса моделей", mode="dense")) == 7


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(0, 6)),
    st.sampled_from(QUERIES),
    st.sampled_from(["hybrid", "lexical", "dense"]),
    st.integers(1, 8),
)
def test_a_filter_never_leaks(index, allowed, query, mode, top):
    ids = {f"d{i}" for i in allowed}
    hits = index.search(query, top, mode=mode, filter=lambda chunk: chunk.document_id in ids)
    assert {hit.chunk.document_id for hit in hits} <= ids
    unfiltered = index.search(query, 10, mode=mode)
    if mode != "hybrid":  # and shortens nothing: the same hits without the others
        expected = [hit.chunk.id for hit in unfiltered if hit.chunk.document_id in ids]
        assert [hit.chunk.id for hit in hits] == expected[:top]


def test_a_mapping_filters_by_metadata_and_fields(index):
    hits = index.search("the model", filter={"odd": "1", "language": "en"})
    assert {hit.chunk.document_id for hit in hits} <= {"d1", "d3"} != set()
    assert index.search("the model", filter={"unknown": "1"}) == []


def test_many_queries_equal_one_by_one(index):
    for mode in ("hybrid", "lexical", "dense"):
        assert index.search_many(QUERIES, 5, mode=mode) == [
            index.search(q, 5, mode=mode) for q in QUERIES
        ]


@pytest.mark.parametrize("query", ["", "  \n", "!?…", "\ud800"])
def test_queries_without_words_find_nothing(index, query):
    assert index.search(query, mode="lexical") == []
    assert not index.search(query, mode="hybrid")


def test_a_query_of_ten_thousand_words_works(index):
    hits = index.search("weights of the model " * 2500)
    assert hits[0].chunk.document_id in {"d2", "d3"}


def test_cjk_and_forms_of_words_are_found(index):
    assert index.search("量化模型")[0].chunk.document_id == "d6"
    assert index.search("кошками")[0].chunk.document_id == "d4"


def test_right_to_left_and_mixed_languages_are_found(tmp_path):
    texts = {
        "ar": "تعلم الآلة هو فرع من الذكاء الاصطناعي",
        "he": "למידת מכונה היא ענף של בינה מלאכותית",
        "mix": "The word תורה and the word مدرسة stand in one English sentence.",
        "bidi": "\u202eabc def\u202c and \u2067מבחן\u2069",
    }
    embedder = HashingEmbedder(languages=None)
    index = build(tmp_path / "i", [Document(i, t) for i, t in texts.items()], embedder=embedder)
    asked = {"الذكاء": "ar", "מלאכותית": "he", "תורה": "mix", "مدرسه مدرسة": "mix", "מבחן": "bidi"}
    for query, expected in {**asked, "English sentence": "mix", "def": "bidi"}.items():
        for mode in ("lexical", "hybrid"):
            assert index.search(query, mode=mode)[0].chunk.document_id == expected, query
    assert {chunk.document_id: chunk.text for chunk in index.chunks()} == texts


def test_title_and_heading_are_searched(tmp_path):
    section = Section("Rank", "rank", 2, 0, 30)
    text = "It says how many directions it has."
    documents = [Document("a", text, title="Adapters", sections=(section,)), Document("b", text)]
    index = build(tmp_path / "i", documents)
    for query in ("adapters", "rank"):
        assert [h.chunk.document_id for h in index.search(query, mode="lexical")] == ["a"]
    assert index.section_span("a#rank") == ("a", 0, 30)
    assert index.section_span("b") == ("b", 0, len(text))
    with pytest.raises(InputError, match=r"no section #alpha.*#rank"):
        index.section_span("a#alpha")
    with pytest.raises(InputError, match="relevant 'zz#rank': no document of that id"):
        index.section_span("zz#rank")


def test_documents_come_back_as_they_were(tmp_path):
    document = Document("it's", "Text.\n\nMore.", "Title", "file.md", "en",
                        (Section("H", "h", 1, 0, 5),), {"k": "v"})  # fmt: skip
    index = build(tmp_path / "i", [document])
    assert list(index.documents()) == [document] == [index.document("it's")]
    assert [c.metadata for c in index.chunks()] == [{"k": "v"}]


def test_empty_documents_are_skipped_and_remove_what_stood(tmp_path):
    index = build(tmp_path / "i", documents(0))
    changes = index.upsert([Document("d0", " \n"), Document("x", "")])
    assert (changes.skipped, changes.removed) == (["d0", "x"], ["d0"])
    assert index.stats()["documents"] == 0
    assert index.search("cat") == [] == list(index.chunks())
    assert index.digest() == build(tmp_path / "j").digest()


def test_mistakes_are_named(tmp_path, index):
    with pytest.raises(InputError, match="two documents have the id 'd0'"):
        index.upsert(documents(0, 0))
    with pytest.raises(InputError, match="surrogate"):
        index.upsert([Document("s", "\ud800")])
    with pytest.raises(InputError, match="empty id"):
        index.upsert([Document("", "x")])
    with pytest.raises(ConfigurationError, match="'fuzzy' is not a mode"):
        index.search("x", mode="fuzzy")
    with pytest.raises(ConfigurationError, match="top is 0"):
        index.search("x", 0)
    with pytest.raises(ConfigurationError, match="the chunk overlap is 9"):
        build(tmp_path / "i", chunk_size=10, chunk_overlap=9)
    with pytest.raises(ConfigurationError, match="vectors come from hashing-32-0"):
        Index.open(index.path, HashingEmbedder(dimension=16))
    with pytest.raises(ConfigurationError, match="not the embedder given"):
        Index.open(index.path, HashingEmbedder(fingerprint="other"))
    with pytest.raises(ConfigurationError, match="does not know where its embedder comes from"):
        Index.open(index.path).search("cat on the moon")
    assert Index.open(index.path).search("cat", mode="lexical")  # needs none


def test_documents_by_their_best_chunk_however_many_chunks_they_have(tmp_path):
    long = Document("long", "The cat sat here. " * 60)
    others = [Document(f"o{i}", f"One cat and {i} words more of it.") for i in range(8)]
    index = build(tmp_path / "i", [long, *others], chunk_size=8)
    for mode in ("lexical", "hybrid", "dense"):
        [ranking] = search_documents(index, ["the cat sat"], 9, mode)
        assert sorted(i for i, _ in ranking) == sorted(["long", *(d.id for d in others)])
        assert [s for _, s in ranking] == sorted((s for _, s in ranking), reverse=True)


def test_the_approximate_index_agrees_with_the_exact_search(tmp_path):
    words = [
        "model",
        "weight",
        "layer",
        "token",
        "graph",
        "cat",
        "moon",
        "road",
        "tree",
        "stone",
        "river",
        "cloud",
    ]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, 8)) for _ in range(600)]
    corpus = [Document(f"d{i}", text, language="en") for i, text in enumerate(texts)]
    exact = build(tmp_path / "a", corpus)
    near = build(tmp_path / "b", corpus, ann_from=500)
    assert near.stats()["approximate"] and not exact.stats()["approximate"]
    queries = [" ".join(rng.choice(words, 4)) for _ in range(20)]
    shared = 0
    for query in queries:
        truth = {h.chunk.id: h.score for h in exact.search(query, mode="dense")}
        hits = near.search(query, mode="dense")
        shared += len(truth.keys() & {h.chunk.id for h in hits})
        for hit in hits:
            if hit.chunk.id in truth:
                assert hit.score == pytest.approx(truth[hit.chunk.id], abs=1e-5)
    assert shared / (10 * len(queries)) > 0.9
    ids = {f"d{i}" for i in range(5)}  # a strict filter goes over to the exact search
    hits = near.search(queries[0], mode="dense", filter=lambda c: c.document_id in ids)
    assert {h.chunk.document_id for h in hits} == ids
    near.upsert([Document("new", "completely different words", language="en")])
    assert near.search("completely different words", mode="dense")[0].chunk.document_id == "new"
    assert near.search("completely different words")[0].chunk.document_id == "new"


def test_minilm_is_loaded_from_the_recorded_source(tmp_path, minilm_path):
    index = Index.create(tmp_path / "i", str(minilm_path))
    index.upsert(documents(0, 2, 5))
    reopened = Index.open(tmp_path / "i")
    hits = reopened.search("fine-tuning with few parameters", mode="dense")
    assert [hit.chunk.document_id for hit in hits] == ["d2", "d0"]  # Russian has no vote
    assert index.digest() == reopened.digest()


def test_claims_on_a_part_of_xquad(tmp_path, shared_data):
    """The whole is measured by benchmarks/retrieval.py; here 40 Russian paragraphs."""
    import json

    articles = json.loads((shared_data / "xquad" / "xquad.ru.json").read_text())["data"][:8]
    paragraphs = [p for article in articles for p in article["paragraphs"]]
    index = build(
        tmp_path / "i", [Document(str(i), p["context"]) for i, p in enumerate(paragraphs)]
    )
    asked = [(q["question"], str(i)) for i, p in enumerate(paragraphs) for q in p["qas"]]
    hits = index.search_many([question for question, _ in asked], 1)
    right = [h[0].chunk.document_id == i for h, (_, i) in zip(hits, asked, strict=True)]
    assert sum(right) / len(right) > 0.9


def test_a_written_context_is_read_by_both_retrievers(tmp_path):
    def contexts(document, chunks):
        sentence = f"From the report on {document.title}."
        return [replace(c, metadata={**c.metadata, "context": sentence}) for c in chunks]

    embedder = HashingEmbedder()
    index = build(tmp_path / "i", embedder=embedder)
    index.upsert([Document("a", "Its revenue grew.", "zinc")], contexts=contexts)
    index.upsert([Document("b", "Its revenue grew.", metadata={"context": "zinc"})])
    assert embedder.embedded[0] == "zinc\nFrom the report on zinc.\nIts revenue grew."
    assert embedder.embedded[1] == "Its revenue grew."  # the user's own field is a field
    assert [h.chunk.document_id for h in index.search("report", mode="lexical")] == ["a"]
    [chunk, _] = index.chunks()
    assert chunk.text == "Its revenue grew."
    assert chunk.metadata == {"context": "From the report on zinc."}


def test_late_chunks_are_embedded_in_the_text_around_them(tmp_path, minilm_path):
    text = "Berlin is the capital of Germany. It has many parks. Its people like them."
    late = ChunkSettings("late", 8)
    index = Index.create(tmp_path / "i", str(minilm_path), chunking=late)
    index.upsert([Document("d", text, language="en")])
    spans = [(chunk.start, chunk.end) for chunk in index.chunks()]
    assert len(spans) > 2
    expected = load_embedder(str(minilm_path)).embed_spans(text, spans)
    query = load_embedder(str(minilm_path)).embed(["the parks of Berlin"], kind="query")[0]
    scores = {h.chunk.start: h.score for h in index.search("the parks of Berlin", mode="dense")}
    for (start, _), vector in zip(spans, expected, strict=True):
        assert scores[start] == pytest.approx(float(vector @ query), abs=1e-5)
    with pytest.raises(ConfigurationError, match="late chunks need the vectors of tokens"):
        build(tmp_path / "j", chunking=late)
