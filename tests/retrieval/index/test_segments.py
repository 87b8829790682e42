"""Segments: how many there are, what merging keeps, and that no result depends on them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hashing_embedder import HashingEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import Chunk, Document, InputError
from llmwright.retrieval import ChunkSettings, Index, search_documents
from llmwright.retrieval.index import indexing, store
from llmwright.retrieval.index.blobs import BlobFile, Blobs, mapped_blobs, packed, write_blobs
from llmwright.retrieval.index.facets import Facets, facets, merged_facets
from llmwright.retrieval.lexical.arrays import Arrays, write_arrays
from llmwright.retrieval.lexical.postings import MAX_ROWS

WORDS = ["model", "weight", "layer", "cat", "moon", "веса", "модель", "量化"]
TEXTS = [" ".join(np.random.default_rng(n).choice(WORDS, 6)) for n in range(30)]
QUERIES = ["model weight", "cat on the moon", "веса модели", "量化", "layer"]


def build(folder, *parts: list[Document], **options) -> Index:
    index = Index.create(folder, HashingEmbedder(languages=None), **options)
    for part in parts:
        index.upsert(part)
    return index


@pytest.fixture
def many(monkeypatch):
    """Nothing is merged."""
    monkeypatch.setattr(store, "SMALL", 0)


def test_results_do_not_depend_on_segments(many, tmp_path):
    """Texts repeat, so that many chunks tie in every ranking and in the fusion, also at its end."""
    documents = [Document(f"{n * 7 % 60:02d}", TEXTS[n % 10]) for n in range(60)]
    whole = build(tmp_path / "a", documents)
    parts = build(tmp_path / "b", *(documents[n : n + 9] for n in range(0, 60, 9)))
    assert (whole.stats()["segments"], parts.stats()["segments"]) == (1, 7)
    assert whole.digest() == parts.digest()
    assert list(whole.chunks()) == list(parts.chunks())
    assert list(whole.documents()) == list(parts.documents())
    for mode in ("lexical", "dense", "hybrid"):
        for query in QUERIES:
            for top in (1, 5, 50):
                assert whole.search(query, top, mode=mode) == parts.search(query, top, mode=mode)
        assert search_documents(whole, QUERIES, 7, mode) == search_documents(
            parts, QUERIES, 7, mode
        )
    assert whole.rankings(QUERIES) == parts.rankings(QUERIES)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_history_in_segments_equals_a_fresh_build(tmp_path_factory, data):
    """As ``test_any_history_equals_a_fresh_build``, with commits that merge some and not others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "SMALL", data.draw(st.sampled_from([0, 3])))
        patch.setattr(store, "_MANY", 3)
        patch.setattr(indexing, "BATCH", data.draw(st.sampled_from([2, 50])))
        folder = tmp_path_factory.mktemp("history")
        index, current = build(folder / "a", chunk_size=4), {}
        for _ in range(data.draw(st.integers(1, 6))):
            ids = st.sampled_from([f"d{n}" for n in range(8)])
            batch = data.draw(st.dictionaries(ids, st.sampled_from([*TEXTS, " "]), max_size=4))
            index.upsert([Document(i, text) for i, text in batch.items()])
            current |= batch
            gone = data.draw(st.sets(ids, max_size=2))
            index.delete(gone)
            current = {i: t for i, t in current.items() if i not in gone and t.strip()}
    fresh = build(folder / "b", [Document(i, t) for i, t in current.items()], chunk_size=4)
    assert index.digest() == fresh.digest() == Index.open(index.path).digest()
    counts = ("documents", "chunks", "languages")
    assert [index.stats()[c] for c in counts] == [fresh.stats()[c] for c in counts]
    for mode in ("lexical", "dense", "hybrid"):
        assert index.search_many(QUERIES, 5, mode=mode) == fresh.search_many(QUERIES, 5, mode=mode)


@given(st.lists(st.integers(1, 40_000), max_size=60))
def test_segments_stay_few_and_chunks_are_copied_seldom(commits):
    sizes: list[int] = []
    copied = 0
    for size in commits:
        sizes.append(size)
        while chosen := store.due(sizes):
            merged = sum(sizes[i] for i in chosen)
            assert len(chosen) > 1 and merged <= MAX_ROWS
            copied += merged
            sizes = [s for i, s in enumerate(sizes) if i not in chosen] + [merged]
    assert sum(sizes) == sum(commits)
    assert len(sizes) <= 17 + sum(commits) // (MAX_ROWS // 2)
    # In units of SMALL: each chunk twice as a middle one, and small ones while they are small.
    assert copied <= 3 * sum(commits) + len(commits) * store.SMALL


def test_a_commit_of_a_few_documents_leaves_the_large_segments_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SMALL", 10)
    index = build(tmp_path / "i", [Document(f"a{n}", TEXTS[n]) for n in range(30)])
    [large] = (tmp_path / "i" / "segments").iterdir()
    before = {path: path.stat().st_mtime_ns for path in large.iterdir()}
    for n in range(12):
        index.upsert([Document(f"b{n}", TEXTS[n])])
    index.delete(["a3"])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert index.stats()["segments"] == 3  # it, one that has grown to 10, and what came after
    assert not index.search(TEXTS[3], filter={"document_id": "a3"})
    assert Index.open(index.path, HashingEmbedder(languages=None)).stats()["chunks"] == 41


def test_a_segment_half_dead_is_written_anew_and_an_empty_one_goes(many, tmp_path):
    index = build(
        tmp_path / "i",
        [Document(f"a{n}", TEXTS[n]) for n in range(10)],
        [Document("b", TEXTS[0])],
    )
    index.delete(["a0", "a1", "a2", "b"])
    assert [opened.segment.rows for opened in index._snapshot.opened] == [10]
    index.delete(["a3", "a4", "a5"])
    assert [opened.segment.rows for opened in index._snapshot.opened] == [4]
    index.delete([f"a{n}" for n in range(10)])
    assert index._snapshot.opened == [] == index.search("model")


def test_a_document_of_many_segments_comes_and_goes_whole(many, tmp_path, monkeypatch):
    monkeypatch.setattr(indexing, "BATCH", 3)
    text = " ".join(f"word{n} and more of it." for n in range(40))
    index = build(
        tmp_path / "i", [Document("long", text), Document("short", "A cat.")], chunk_size=8
    )
    assert index.stats()["segments"] > 3
    assert index.document("long").text == text
    assert index.search("word39")[0].chunk.document_id == "long"
    index.upsert([Document("long", "The dog.")])
    assert [chunk.text for chunk in index.chunks()] == ["The dog.", "A cat."]
    index.delete(["long"])
    assert [d.id for d in index.documents()] == ["short"]


def test_what_fails_in_the_middle_of_an_upsert_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(indexing, "BATCH", 2)
    index = build(tmp_path / "i", [Document("a", TEXTS[0])])
    digest = index.digest()

    def documents():
        yield from (Document(f"n{n}", TEXTS[n]) for n in range(9))
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        index.upsert(documents())
    assert Index.open(index.path).digest() == digest == index.digest()
    assert len(list((index.path / "segments").iterdir())) == 1


def test_many_threads_search_while_the_index_changes(tmp_path):
    index = build(tmp_path / "i", [Document(f"d{n}", TEXTS[n]) for n in range(30)])
    expected = {query: index.search(query, 5, filter={"document_id": "d3"}) for query in QUERIES}
    wrong: list[object] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            for query, hits in expected.items():
                try:
                    found = index.search(query, 5, filter={"document_id": "d3"})
                    if [hit.chunk for hit in found] != [hit.chunk for hit in hits]:
                        wrong.append(found)
                except Exception as error:
                    wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(8):
        index.upsert([Document(f"d{n % 3}", f"round {n} of the model"), Document(f"x{n}", "moon")])
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_index_remembers_how_documents_are_cut(tmp_path):
    chunking = ChunkSettings("parent-child", 6, parent_size=24)
    index = build(tmp_path / "i", [Document("d", " ".join(TEXTS))], chunking=chunking)
    reopened = Index.open(index.path, HashingEmbedder(languages=None))
    reopened.upsert([Document("e", " ".join(TEXTS))])
    spans = {i: [c.metadata["parent"] for c in index.chunks()] for i, index in enumerate([index])}
    assert [c.metadata["parent"] for c in reopened.chunks()] == 2 * spans[0]
    assert reopened.stats()["chunking"] == "parent-child"


def test_strings_in_files(tmp_path):
    strings = [b"a", b"", b"bc", "я".encode()]
    first, second = write_blobs(tmp_path / "x", strings, strings[::-1])
    file = BlobFile(tmp_path / "x")
    (tmp_path / "x").unlink()
    assert (
        list(Blobs(first, file.read)) == strings == [Blobs(first, file.read)[n] for n in range(4)]
    )
    assert list(Blobs(second, file.read)) == strings[::-1]
    arrays = {**packed("s", sorted(strings)), **packed("none", [])}
    write_arrays(tmp_path / "y", arrays)
    opened = Arrays(tmp_path / "y")
    assert list(mapped_blobs(opened, "none")) == []
    found = mapped_blobs(opened, "s")
    assert list(found) == sorted(strings)
    assert [found.find(wanted) for wanted in (b"", b"bc", b"b", b"z")] == [0, 2, None, None]


def test_a_file_that_was_cut_short_is_said(tmp_path):
    index = build(tmp_path / "i", [Document("a", TEXTS[0])])
    [folder] = (index.path / "segments").iterdir()
    for name in ("segment.safetensors", "texts.blob", "dense.safetensors"):
        whole = (folder / name).read_bytes()
        for size in (len(whole) - 1, 4, 0):
            (folder / name).write_bytes(whole[:size])
            with pytest.raises(InputError, match="cannot be read"):
                Index.open(index.path)
        (folder / name).write_bytes(whole)
    assert Index.open(index.path).digest() == index.digest()


VALUES = st.sampled_from(["", "1", '"', "a b", "я", "en"])
CHUNKS = st.lists(
    st.builds(
        lambda n, heading, metadata: Chunk("", f"d{n}", "", 0, 0, heading, "en", metadata),
        st.integers(0, 3),
        VALUES,
        st.dictionaries(st.sampled_from(["k", "language", "heading", '"']), VALUES),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(CHUNKS, CHUNKS, st.data())
def test_facets_say_who_has_which_values(tmp_path_factory, first, second, data):
    folder = tmp_path_factory.mktemp("facets")
    keep = [
        data.draw(st.lists(st.booleans(), min_size=len(c), max_size=len(c)))
        for c in (first, second)
    ]
    moved, chunks = [], []
    for part, kept in zip((first, second), keep, strict=True):
        moved.append(
            np.array(
                [len(chunks) + sum(kept[:i]) if k else -1 for i, k in enumerate(kept)], np.int64
            )
        )
        chunks += [chunk for chunk, k in zip(part, kept, strict=True) if k]

    def opened(arrays):
        write_arrays(folder / "x", arrays)
        return Facets(Arrays(folder / "x"))

    parts = [opened(facets(first)), opened(facets(second))]
    merged = opened(merged_facets(parts, moved, len(chunks)))
    for chunk in [*chunks, Chunk("", "d9", "", 0, 0)]:
        wanted = {"document_id": chunk.document_id, **chunk.metadata, "k": "1"}
        expected = [
            all(c.metadata.get(k, getattr(c, k, None)) == v for k, v in wanted.items())
            for c in chunks
        ]
        assert merged.mask(wanted, len(chunks)).tolist() == expected
