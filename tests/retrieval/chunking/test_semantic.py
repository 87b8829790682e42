"""Cuts where the subject changes: distances, the three kinds of breakpoint, sizes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hashing_embedder import HashingEmbedder
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError, Document
from llmwright.retrieval.chunking import ChunkSettings, chunk_document, semantic, split_sentences
from llmwright.retrieval.chunking.semantic import breakpoints, neighbour_distances


class Subjects:
    """An embedder for which a text is about cats as far as it says so, else about ships."""

    name, dimension, languages = "subjects", 2, None

    def __init__(self):
        self.seen: list[str] = []

    def embed(self, texts, *, kind="document"):
        self.seen += texts
        counts = [(t.count("cat") + 1e-9, t.count("ship") + 1e-9) for t in texts]
        vectors = np.array(counts, np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


TEXT = "The cat sat. A cat ran. One cat ate. The ship sank. A ship sailed. One ship came."


def test_a_change_of_subject_is_cut():
    embedder = Subjects()
    asked = ChunkSettings("semantic", 60, window=0, threshold=80.0)
    assert [c.text for c in chunk_document(Document("d", TEXT), asked, embedder=embedder)] == [
        "The cat sat. A cat ran. One cat ate.", "The ship sank. A ship sailed. One ship came.",
    ]  # fmt: skip
    assert embedder.seen == [TEXT[a:b] for a, b in split_sentences(TEXT)]


def test_windows_hold_the_sentences_around():
    embedder = Subjects()
    chunk_document(Document("d", TEXT), ChunkSettings("semantic", 200, window=1), embedder=embedder)
    assert embedder.seen[0] == "The cat sat. A cat ran. "
    assert embedder.seen[2] == "A cat ran. One cat ate. The ship sank. "


def test_what_lies_between_cuts_is_split_at_its_size_and_sections_are_not_crossed():
    asked = ChunkSettings("semantic", 8, window=0, threshold=80.0)
    chunks = chunk_document(Document("d", TEXT), asked, embedder=Subjects())
    assert [c.text.count(".") for c in chunks] == [2, 1, 2, 1]


def test_distances_do_not_depend_on_how_many_are_embedded_at_once(monkeypatch):
    embedder = HashingEmbedder()
    spans = list(split_sentences(TEXT))
    vectors = embedder.embed([TEXT[a:b] for a, b in spans]).astype(np.float64)
    expected = [1 - float(a @ b) for a, b in pairwise(vectors)]
    for at_once in (1, 2, 3, 100):
        monkeypatch.setattr(semantic, "_AT_ONCE", at_once)
        found = neighbour_distances(iter(spans), TEXT, embedder.embed)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert len(neighbour_distances(iter([]), TEXT, embedder.embed)) == 0
    assert len(neighbour_distances(iter(spans[:1]), TEXT, embedder.embed)) == 0


@given(st.lists(st.floats(0, 2), min_size=2, max_size=40), st.floats(0, 100))
def test_breakpoints_by_their_definitions(values, threshold):
    distances = np.array(values)
    ordered = np.sort(distances)
    at = threshold / 100 * (len(ordered) - 1)  # linear interpolation between order statistics
    low = int(at)
    limit = ordered[low] + (at - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])
    found = breakpoints(distances, "percentile", threshold)
    clear = np.abs(distances - limit) > 1e-9
    assert (found == (distances > limit))[clear].all()
    deviation = breakpoints(distances, "deviation", threshold / 25)
    mean = sum(values) / len(values)
    spread = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
    limit = mean + threshold / 25 * spread
    clear = np.abs(distances - limit) > 1e-9
    assert (deviation == (distances > limit))[clear].all()


def test_gradients_are_central_differences():
    distances = np.array([0.1, 0.1, 0.1, 0.9, 0.9, 0.1, 0.1])
    # gradient: 0, 0, .4, .4, -.4, -.4, 0: the 75th percentile is .2
    assert breakpoints(distances, "gradient", 75.0).tolist() == [0, 0, 1, 1, 0, 0, 0]
    assert breakpoints(distances[:1], "gradient", 75.0).tolist() == [False]


def test_without_an_embedder_it_says_so():
    with pytest.raises(ConfigurationError, match="semantic chunks need an embedder"):
        chunk_document(Document("d", TEXT), ChunkSettings("semantic"))
