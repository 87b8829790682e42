"""Codes of one bit a dimension: what they estimate, and that both ways of counting agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.retrieval.dense.codes import LANES, QUERY_BITS, encode, encode_queries, turned
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
    codes, coded = encode(vectors, centre), encode_queries(queries, centre)
    found = scan(codes, coded, 2000, None)
    turn, turned_queries = turned(vectors - centre), turned(queries - centre)
    signs = np.where(turn > 0, 1.0, -1.0)
    for q, (rows, scores) in enumerate(found):
        # The equation in full precision, apart from the rounding of the query.
        by_hand = turned_queries[q] @ signs.T * (turn**2).sum(1) / np.abs(turn).sum(1)
        by_hand += vectors @ centre + queries[q] @ centre - centre @ centre
        assert sorted(rows) == list(range(2000))
        step = coded.terms[q, 1]
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
    n, dimension = data.draw(st.integers(1, 1500)), data.draw(st.sampled_from([3, 64, 100, 200]))
    k, count = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 3))
    vectors, queries = unit(seed, n, dimension), unit(seed + 1, count, dimension)
    vectors[n // 2 :] = vectors[: n - n // 2]  # equal vectors tie
    centre = vectors.mean(axis=0)
    codes, coded = encode(vectors, centre), encode_queries(queries, centre)
    mask = None
    if data.draw(st.booleans()):
        mask = np.random.default_rng(seed).random(n) < data.draw(st.sampled_from([0.0, 0.02, 0.5]))
    compiled = scan(codes, coded, k, mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMWRIGHT_NATIVE", "0")
        counted = scan(codes, coded, k, mask)
    wanted = n if mask is None else int(mask.sum())
    for (rows, scores), (others, same) in zip(compiled, counted, strict=True):
        assert len(rows) == min(k, wanted)
        assert rows.tolist() == others.tolist()
        assert scores.tobytes() == same.tobytes()  # best first, of equal scores the lower row
        assert sorted(zip(-scores, rows, strict=True)) == list(zip(-scores, rows, strict=True))
        assert mask is None or mask[rows].all()


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmwright.retrieval.dense import scan as module

    vectors, queries = unit(5, 3001, 70), unit(6, 2, 70)
    codes, coded = encode(vectors, vectors[0]), encode_queries(queries, vectors[0])
    alone = scan(codes, coded, 50, None)
    monkeypatch.setattr(module, "_PER_THREAD", 700)
    monkeypatch.setenv("LLMWRIGHT_THREADS", "4")
    for (rows, scores), (others, same) in zip(alone, scan(codes, coded, 50, None), strict=True):
        assert rows.tolist() == others.tolist()
        assert scores.tobytes() == same.tobytes()


def test_shapes_and_nothing_to_find() -> None:
    codes = encode(unit(7, 13, 70), np.zeros(70, np.float32))
    assert codes.bits.shape == (2, 2, LANES)
    assert len(codes) == 13
    coded = encode_queries(unit(8, 2, 70), codes.centre)
    assert coded.planes.shape == (2, QUERY_BITS, 2)
    empty = encode(np.zeros((0, 70), np.float32), codes.centre)
    assert [len(rows) for rows, _ in scan(empty, coded, 5, None)] == [0, 0]
    # A vector that is the centre itself has no direction to estimate: its score is exact.
    same = encode(codes.centre[None] + 0, codes.centre)
    assert scan(same, coded, 1, None)[0][1].tolist() == [0.0]
