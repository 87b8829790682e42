"""Dense search over segments: exact against a sort of all products, approximate by its recall."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.retrieval.dense import search as module
from llmwright.retrieval.dense.search import dense_search, vectors_of
from llmwright.retrieval.dense.segment import DenseSegment, write_segment


def unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def sorted_by_hand(
    segments: list[DenseSegment], query: np.ndarray, top: int, mask: np.ndarray | None
) -> list[tuple[int, float]]:
    scored, start = [], 0
    for segment in segments:
        for row in np.flatnonzero(segment.votes):
            if mask is None or mask[start + row]:
                score = segment.vectors(np.array([row]))[0] @ query
                scored.append((int(start + row), float(score)))
        start += segment.rows
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:top]


def make(folder: Path, seed: int, sizes: list[int], voting: float) -> list[DenseSegment]:
    rng = np.random.default_rng(seed)
    segments = []
    for i, size in enumerate(sizes):
        votes = rng.random(size) < voting
        # Few and whole values: scores are exact and tie, within a segment and across segments.
        vectors = rng.integers(-1, 2, (int(votes.sum()), 6)).astype(np.float32)
        (folder / str(i)).mkdir()
        write_segment(folder / str(i), vectors, votes)
        segments.append(DenseSegment(folder / str(i)))
    return segments


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_exact_search_and_short_indexes_equal_a_sort(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    sizes = data.draw(st.lists(st.integers(0, 60), min_size=1, max_size=4))
    seed, top = data.draw(st.integers(0, 1000)), data.draw(st.integers(1, 80))
    voting = data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    segments = make(tmp_path_factory.mktemp("exact"), seed, sizes, voting)
    rng = np.random.default_rng(seed + 1)
    queries = rng.integers(-3, 4, (3, 6)).astype(np.float32)
    mask = rng.random(sum(sizes)) < 0.4 if data.draw(st.booleans()) else None
    expected = [sorted_by_hand(segments, query, top, mask) for query in queries]
    for ann_from in (10**9, 0):  # a shortlist that holds every row changes nothing either
        found = dense_search(segments, queries, top, mask, ann_from=ann_from)
        assert found == expected


def clustered(n: int, dimension: int) -> np.ndarray:
    """Vectors as a model gives them: around topics, and all of them a little one way."""
    rng = np.random.default_rng(3)
    topics = rng.standard_normal((n // 20, dimension))
    vectors = topics[rng.integers(0, len(topics), n)] + 0.7 * rng.standard_normal((n, dimension))
    return unit(vectors * np.exp(-np.arange(dimension) / 60) + 0.1)


@pytest.mark.parametrize("masked", [False, True])
def test_approximate_search_finds_the_nearest(
    tmp_path: Path, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHORTLIST", 100)
    vectors = clustered(6000, 128)
    segments = []
    for i, part in enumerate(np.array_split(vectors, 3)):
        (tmp_path / str(i)).mkdir()
        write_segment(tmp_path / str(i), part, np.ones(len(part), np.bool_))
        segments.append(DenseSegment(tmp_path / str(i)))
    queries = unit(vectors[::300] + 0.05 * np.random.default_rng(4).standard_normal((20, 128)))
    mask = np.random.default_rng(5).random(6000) < 0.3 if masked else None
    exact = dense_search(segments, queries, 10, mask)
    found = dense_search(segments, queries, 10, mask, ann_from=0)
    recalls = [
        len({r for r, _ in ours} & {r for r, _ in theirs}) / 10
        for ours, theirs in zip(found, exact, strict=True)
    ]
    assert np.mean(recalls) > 0.97
    for ours, theirs in zip(found, exact, strict=True):
        assert mask is None or all(mask[row] for row, _ in ours)
        for row, score in ours:  # the scores themselves are exact
            if row in {r for r, _ in theirs}:
                assert abs(score - dict(theirs)[row]) < 2e-6


def test_few_allowed_rows_are_all_found(tmp_path: Path) -> None:
    vectors = clustered(3000, 64)
    write_segment(tmp_path, vectors, np.ones(3000, np.bool_))
    mask = np.zeros(3000, np.bool_)
    mask[[5, 77, 2999]] = True
    (found,) = dense_search([DenseSegment(tmp_path)], vectors[:1], 10, mask, ann_from=0)
    assert {row for row, _ in found} == {5, 77, 2999}


def test_more_queries_than_fit_at_once(tmp_path: Path) -> None:
    vectors = clustered(400, 32)
    write_segment(tmp_path, vectors, np.ones(400, np.bool_))
    segment = DenseSegment(tmp_path)
    together = dense_search([segment], vectors[:150], 3)
    assert [ranking[0][0] for ranking in together] == list(range(150))
    assert dense_search([segment], vectors[:0], 3) == []
    assert dense_search([], vectors[:2], 3) == [[], []]


def test_vectors_of_rows_of_all_segments(tmp_path: Path) -> None:
    segments = make(tmp_path, 9, [20, 30], 0.5)
    votes = np.concatenate([segment.votes for segment in segments])
    found = vectors_of(segments, [49, 3, 25, 3, 0])
    assert set(found) == {row for row in (0, 3, 25, 49) if votes[row]}
    for row, vector in found.items():
        segment, local = (segments[0], row) if row < 20 else (segments[1], row - 20)
        assert np.array_equal(segment.vectors(np.array([local]))[0], vector)
