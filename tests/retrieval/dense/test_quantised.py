"""Vectors in fewer bytes: against sentence-transformers and faiss, and the laws of two steps."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.retrieval.dense import quantised as module
from llmwright.retrieval.dense.quantised import (
    CodedVectors,
    Int8Vectors,
    Quantised,
    ShortVectors,
    SignVectors,
    two_steps,
)


def clustered(seed: int, n: int, dimension: int = 96) -> np.ndarray:
    rng = np.random.default_rng(seed)
    topics = rng.standard_normal((max(1, n // 20), dimension))
    vectors = topics[rng.integers(0, len(topics), n)] + 0.7 * rng.standard_normal((n, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def forms(vectors: np.ndarray) -> list[Quantised]:
    return [
        Int8Vectors(vectors),
        Int8Vectors(vectors, per="dimension"),
        SignVectors(vectors),
        CodedVectors(vectors),
        ShortVectors(vectors, 24),
    ]


def exact(vectors: np.ndarray, queries: np.ndarray, top: int) -> list[np.ndarray]:
    scores = np.round(queries @ vectors.T, 6)
    return [np.lexsort((np.arange(len(vectors)), -row))[:top] for row in scores]


@pytest.mark.parametrize("per", ["vector", "dimension"])
def test_int8_is_within_half_a_step(per: str) -> None:
    vectors = clustered(0, 200)
    vectors[7], vectors[:, 5] = 0, 0
    form = Int8Vectors(vectors, per=per)
    decoded = form.decoded(np.arange(200))
    scale = form.scale[:, None] if per == "vector" else form.scale
    assert (np.abs(decoded - vectors) <= 0.5001 * scale).all()
    assert np.abs(form.codes).max() == 127
    queries = clustered(1, 5)
    by_hand = exact(decoded, queries, 200)
    for rows, expected in zip(form.nearest(queries, 3), by_hand, strict=True):
        assert rows.tolist() == expected[:3].tolist()


def test_signs_are_those_of_sentence_transformers_and_distances_those_of_faiss() -> None:
    pytest.importorskip("sentence_transformers", reason="an extra (llmwright[hub])")
    faiss = pytest.importorskip("faiss", reason="an extra (llmwright[stores])")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers.util.quantization import quantize_embeddings
    vectors, queries = clustered(2, 300), clustered(3, 4)
    theirs = quantize_embeddings(vectors, precision="ubinary")
    form = SignVectors(vectors)
    ours = form.bits.view(np.uint8)[:, :12]
    assert np.array_equal(np.unpackbits(ours, axis=1, bitorder="little"), np.unpackbits(theirs, 1))
    index = faiss.IndexBinaryFlat(96)
    index.add(theirs)
    distances, _ = index.search(quantize_embeddings(queries, precision="ubinary"), 20)
    for q, rows in enumerate(form.nearest(queries, 20)):
        ours = [(np.sign(vectors[row]) != np.sign(queries[q])).sum() for row in rows]
        assert ours == distances[q].tolist()


def test_a_second_look_mends_the_first() -> None:
    vectors, queries = clustered(4, 4000), clustered(4, 4000)[::200] + 0
    truth = exact(vectors, queries, 10)
    for form, least in zip(forms(vectors), (0.99, 0.99, 0.9, 0.97, 0.75), strict=True):
        assert form.nbytes < vectors.nbytes / 3
        found = list(two_steps(form, vectors.__getitem__, queries, 10, 100))
        recalls = [
            len({row for row, _ in ranking} & {*best.tolist()}) / 10
            for ranking, best in zip(found, truth, strict=True)
        ]
        assert np.mean(recalls) >= least, form
        once = [
            len({*rows.tolist()} & {*best.tolist()}) / 10
            for rows, best in zip(form.nearest(queries, 10), truth, strict=True)
        ]
        assert np.mean(recalls) >= np.mean(once)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100), st.integers(0, 60), st.integers(1, 12), st.integers(1, 70))
def test_a_shortlist_of_all_is_exact(seed: int, n: int, top: int, block: int) -> None:
    """And rows come once, best first, of equal ones the lower, wherever blocks are cut."""
    vectors, queries = clustered(seed, n), clustered(seed + 1, 2)
    vectors[n // 2 :] = vectors[: n - n // 2]
    truth = exact(vectors, queries, top)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        for form in forms(vectors):
            found = list(two_steps(form, vectors.__getitem__, queries, top, n))
            for query, ranking, best in zip(queries, found, truth, strict=True):
                # Equal vectors may differ in the last bit of a product, and change places.
                assert len({row for row, _ in ranking}) == len(best)
                scores = [score for _, score in ranking]
                np.testing.assert_allclose(scores, vectors[best] @ query, atol=2e-6)
            for rows, few in zip(
                form.nearest(queries, n + 5), form.nearest(queries, 7), strict=True
            ):
                assert sorted(rows.tolist()) == list(range(n))
                assert len(few) == min(n, 7)
            if isinstance(form, SignVectors | CodedVectors):  # whole numbers tie exactly
                few = [rows.tolist() for rows in form.nearest(queries, 7)]
                assert few == [rows.tolist()[:7] for rows in form.nearest(queries, n + 5)]
