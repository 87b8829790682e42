"""Codes of one bit a dimension: what they estimate, and that both ways of counting agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.retrieval.dense import scan as module
from llmwright.retrieval.dense.codes import LANES, QUERY_BITS, encode, encode_query, turned
from llmwright.retrieval.dense.scan import KERNELS, scan


def unit(seed: int, n: int, dimension: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((n, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("dimension", [2, 10, 64, 100, 384])
def test_turning_keeps_lengths_and_angles(dimension: int) -> None:
    vectors = unit(0, 12, dimension)
    turn = turned(vectors)
    np.testing.assert_allclose(turn @ turn.T, vectors @ vectors.T, atol=2e-6)
    if dimension > 2:  # and mixes: one coordinate alone is spread over many
        one = np.eye(1, dimension, dtype=np.float32)
        assert np.abs(turned(one)).max() < 0.95


def test_estimates_follow_the_equation_and_its_error() -> None:
    vectors, queries = unit(1, 2000, 384), unit(2, 3, 384)
    centre = vectors.mean(axis=0)
    codes = encode(vectors, centre)
    found = scan([codes], queries, 2000, [None])
    turn, turned_queries = turned(vectors - centre), turned(queries - centre)
    signs = np.where(turn > 0, 1.0, -1.0)
    for q, (rows, scores) in enumerate(found):
        # The equation in full precision, apart from the rounding of the query.
        by_hand = turned_queries[q] @ signs.T * (turn**2).sum(1) / np.abs(turn).sum(1)
        by_hand += vectors @ centre + queries[q] @ centre - centre @ centre
        assert sorted(rows) == list(range(2000))
        step = encode_query(turned(queries)[q], codes).step
        # Roundings of up to half a step that add up at random: 5 standard deviations.
        bound = 5 * codes.scale[rows] * np.sqrt(384 / 12) * step
        assert (np.abs(scores - by_hand[rows]) < bound).all()
        # Against the truth: no bias, and an error of about sqrt(pi/2 - 1) |q'| / sqrt(d).
        errors = scores - (vectors @ queries[q])[rows]
        assert abs(errors.mean()) < 0.003
        assert 0.03 < errors.std() < 0.045


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_compiled_and_counted_scans_find_the_same(data: st.DataObject) -> None:
    if not KERNELS.available():
        pytest.skip("no compiler here")
    seed = data.draw(st.integers(0, 1000))
    dimension = data.draw(st.sampled_from([3, 64, 100, 200]))
    k, count = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 3))
    queries = unit(seed + 1, count, dimension)
    segments, masks, threads = [], [], data.draw(st.integers(1, 4))
    for i, n in enumerate(data.draw(st.lists(st.integers(0, 700), min_size=1, max_size=4))):
        vectors = unit(seed + i % 2, n, dimension)  # every second segment ties with this one
        vectors[n // 2 :] = vectors[: n - n // 2]  # and equal vectors tie in one
        segments.append(encode(vectors, vectors[:9].sum(axis=0) / 9))
        share = data.draw(st.sampled_from([0.0, 0.02, 0.5, None]))
        masks.append(None if share is None else np.random.default_rng(seed).random(n) < share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PER_THREAD", 100)
        patch.setenv("LLMWRIGHT_THREADS", str(threads))
        compiled = scan(segments, queries, k, masks)
        patch.setenv("LLMWRIGHT_NATIVE", "0")
        counted = scan(segments, queries, k, masks)
    allowed = np.concatenate(
        [
            np.ones(len(codes), np.bool_) if mask is None else mask
            for codes, mask in zip(segments, masks, strict=True)
        ]
    )
    for (rows, scores), (others, same) in zip(compiled, counted, strict=True):
        assert len(rows) == min(k, allowed.sum())
        assert rows.tolist() == others.tolist()
        assert scores.tobytes() == same.tobytes()  # best first, of equal scores the lower row
        assert sorted(zip(-scores, rows, strict=True)) == list(zip(-scores, rows, strict=True))
        assert allowed[rows].all()


def test_shapes_and_nothing_to_find() -> None:
    codes = encode(unit(7, 13, 70), np.zeros(70, np.float32))
    assert codes.bits.shape == (2, 2, LANES)
    assert len(codes) == 13
    queries = unit(8, 2, 70)
    assert encode_query(turned(queries)[0], codes).planes.shape == (QUERY_BITS, 2)
    empty = encode(np.zeros((0, 70), np.float32), codes.centre)
    assert [len(rows) for rows, _ in scan([empty], queries, 5, [None])] == [0, 0]
    assert scan([codes], queries[:0], 5, [None]) == []
    assert [len(rows) for rows, _ in scan([], queries, 5, [])] == [0, 0]
    # A vector that is the centre itself has no direction to estimate: its score is exact.
    own = unit(9, 1, 70)
    assert scan([encode(own, own[0])], own, 1, [None])[0][1] == pytest.approx([1.0], abs=1e-6)
