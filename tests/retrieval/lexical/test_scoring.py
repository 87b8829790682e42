"""Scoring: the same bits in C and in numpy, however passages lie in segments, dead ones unseen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.retrieval import BM25
from llmwright.retrieval.lexical.postings import Postings

PASSAGES = st.lists(st.lists(st.integers(-4, 9), max_size=9), min_size=1, max_size=14)
QUERY = st.dictionaries(st.integers(-5, 10), st.floats(0.125, 4, width=16), max_size=8)


def flat(passages: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    terms = np.array([term for passage in passages for term in passage], np.int64)
    return terms, np.array([len(passage) for passage in passages], np.int64)


def segmented(passages: list[list[int]], cuts: list[int], alive: list[bool]) -> BM25:
    spans = list(itertools.pairwise(cuts))
    live = [None if all(alive[a:b]) else np.array(alive[a:b]) for a, b in spans]
    return BM25([Postings.build(*flat(passages[a:b])) for a, b in spans], live)


@st.composite
def cases(draw):
    passages = draw(PASSAGES)
    cuts = sorted(draw(st.sets(st.integers(1, len(passages)))) | {0, len(passages)})
    alive = draw(st.lists(st.booleans(), min_size=len(passages), max_size=len(passages)))
    return passages, cuts, alive


@settings(deadline=None)
@given(cases(), QUERY)
def test_segments_and_dead_passages_change_no_score(case, query):
    passages, _cuts, alive = case
    kept = [passage for passage, lives in zip(passages, alive, strict=True) if lives]
    expected = BM25.build(*flat(kept)).score(query)
    scores = segmented(*case).score(query)[alive]
    np.testing.assert_array_equal(scores, expected)


@settings(deadline=None)
@given(cases(), QUERY, QUERY, st.integers(1, 6), st.data())
def test_without_a_compiler_all_bits_are_the_same(case, query, more, top, data):
    count = len(case[0])
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    results = []
    for switch in ("1", "0"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LLMWRIGHT_NATIVE", switch)
            bm25 = segmented(*case)
            assert (bm25._scorer._library is not None) == (switch == "1")
            scores = bm25.score(more, bm25.score(query), 0.375)
            best = [bm25.best(scores, top, mask) for mask in (None, allowed)]
            gains = bm25.gains([0, count - 1])
            results.append((scores.tobytes(), best, gains))
    (one, ones, gains), (other, others, same_gains) = results
    assert one == other
    for ours, theirs in zip(gains, same_gains, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    alive = np.array(case[2])
    scores = np.frombuffer(one, np.float32)
    for found, mask in ((ones, alive), (others, alive)):
        for (rows, values), usable in zip(found, (mask, mask & allowed), strict=True):
            assert usable[rows].all() and (values > 0).all()
            np.testing.assert_array_equal(values, scores[rows])
            # Among the candidates are the best of all, ties by row.
            wanted = [row for row in np.argsort(-scores, kind="stable") if usable[row]]
            wanted = [row for row in wanted if scores[row] > 0][:top]
            order = np.lexsort((rows, -values))[:top]
            assert rows[order].tolist() == wanted


@given(cases(), QUERY, QUERY)
@settings(deadline=None)
def test_scores_are_linear_in_the_weights(case, query, more):
    bm25 = segmented(*case)
    both = {t: 0.5 * query.get(t, 0.0) + more.get(t, 0.0) for t in {**query, **more}}
    summed = bm25.score(more, bm25.score(query), 0.5)
    np.testing.assert_allclose(summed, bm25.score(both), rtol=1e-5, atol=1e-6)


def test_the_best_of_many_rows_equal_a_sort():
    rng = np.random.default_rng(0)
    passages = [[int(t) for t in rng.integers(0, 40, rng.integers(1, 30))] for _ in range(3000)]
    bm25 = BM25.build(*flat(passages))
    query = {3: 1.0, 17: 2.0, 39: 0.5}
    scores = bm25.score(query)
    order = np.argsort(-scores, kind="stable")
    for top in (1, 10, 1000, 5000):
        wanted = order[: min(top, int((scores > 0).sum()))]
        assert [row for row, _ in bm25.search(query, top)] == wanted.tolist()


def test_more_passages_than_a_segment_holds():
    passages = [[n % 7, n] for n in range(66_000)]
    bm25 = BM25.build(*flat(passages))
    assert bm25.search({65_990: 1.0}) == [(65_990, bm25.score({65_990: 1.0})[65_990])]
    assert [row for row, _ in bm25.search({6: 1.0}, 3)] == [6, 13, 20]
