"""Laws of reranking: nothing is lost, ties are stable, and closed forms of smoothing."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import Chunk, ConfigurationError, Hit
from llmwright.retrieval.rerank import (
    cross_encoder_reranker,
    interpolated,
    neighbour_reranker,
    reranked,
)
from llmwright.retrieval.rerank.neighbours import similarities, smoothed
from llmwright.retrieval.rerank.reranking import standard


def hit(name: str, score: float, text: str = "", document: str = "") -> Hit:
    chunk = Chunk(name, document or name, text or name, 0, len(text or name), language="en")
    return Hit(chunk, score, {"lexical": 1})


def names(hits: list[Hit]) -> list[str]:
    return [h.chunk.id for h in hits]


HITS = [hit(str(i), 1.0 / (i + 1)) for i in range(8)]


def search(query: str, top: int) -> list[Hit]:
    return HITS[:top]


SCORES = st.lists(
    st.one_of(st.integers(-2, 2).map(float), st.sampled_from([math.nan, -math.inf, math.inf])),
    min_size=8,
    max_size=8,
)


@given(SCORES, st.integers(1, 10), st.integers(1, 10))
def test_no_hit_is_lost_and_ties_keep_their_order(
    scores: list[float], depth: int, top: int
) -> None:
    again = reranked(search, lambda query, hits: scores[: len(hits)], depth)
    assert sorted(names(again("q", 8))) == sorted(names(HITS))
    assert names(again("q", 8))[depth:] == names(HITS)[depth:]
    assert names(again("q", top)) == names(again("q", 8))[:top] or top < depth
    kept = [scores[int(n)] for n in names(again("q", 8))[:depth]]
    finite = [s for s in kept if math.isfinite(s)]
    assert finite == sorted(finite, reverse=True)
    assert all(math.isfinite(s) for s in kept[: len(finite)])
    places = [(s, int(n)) for s, n in zip(kept, names(again("q", 8)), strict=False)]
    for (a, i), (b, j) in pairwise(places):
        assert not (a == b or (not math.isfinite(a) and not math.isfinite(b))) or i < j


def test_a_hit_says_what_the_reranker_made_of_it() -> None:
    best = reranked(search, lambda q, hits: [float(h.chunk.id == "3") for h in hits], 5)("q", 3)
    assert names(best) == ["3", "0", "1"]
    assert best[0].score == 1.0 and best[0].ranks == {"lexical": 1, "reranker": 1}
    with pytest.raises(ConfigurationError, match="2 scores for 8 hits"):
        reranked(search, lambda q, hits: [1.0, 2.0])("q", 3)
    with pytest.raises(ConfigurationError, match="depth is 0"):
        reranked(search, lambda q, hits: [], 0)


@given(SCORES)
def test_the_weight_goes_from_the_old_order_to_the_new(scores: list[float]) -> None:
    old = reranked(search, interpolated(lambda q, hits: scores, 0.0))("q", 8)
    assert names(old) == names(HITS)
    # With all of the weight the order is the reranker's; what is not finite counts as the least.
    known = [s for s in scores if math.isfinite(s)]
    least = min(known, default=0.0)
    expected = sorted(range(8), key=lambda i: -(scores[i] if math.isfinite(scores[i]) else least))
    new = reranked(search, interpolated(lambda q, hits: scores, 1.0))("q", 8)
    assert names(new) == [str(i) for i in expected]
    with pytest.raises(ConfigurationError, match="weight is"):
        interpolated(lambda q, hits: [], 1.5)


def test_standard_scores() -> None:
    np.testing.assert_allclose(standard([1, 2, 3]), [-(1.5**0.5), 0, 1.5**0.5])
    np.testing.assert_array_equal(standard([0.1] * 3), [0, 0, 0])
    np.testing.assert_array_equal(standard([math.nan]), [0])


def test_smoothing_in_closed_form() -> None:
    similar = np.array([[0, 0.5, 0.25, 0], [0.5, 0, 0, 0], [0.25, 0, 0, 0], [0, 0, 0, 0]])
    scores = np.array([0.0, 3.0, 6.0, 9.0])
    two = smoothed(scores, similar, 0.4, 2)
    np.testing.assert_allclose(two, [0.4 * (0.5 * 3 + 0.25 * 6) / 0.75, 1.8, 3.6, 9.0])
    assert smoothed(scores, similar, 0.4, 1)[0] == pytest.approx(0.4 * 3)
    np.testing.assert_array_equal(smoothed(scores, similar, 0.0, 2), scores)


@given(
    st.lists(st.floats(-5, 5), min_size=5, max_size=5), st.floats(0, 1), st.floats(0.1, 3),
    st.floats(-3, 3),
)  # fmt: skip
def test_smoothing_stays_between_the_scores_and_follows_their_scale(
    scores: list[float], share: float, scale: float, shift: float
) -> None:
    similar = np.abs(np.subtract.outer(np.arange(5.0), np.arange(5.0))) / 4
    x = np.array(scores)
    smooth = smoothed(x, similar, share, 3)
    assert (smooth >= x.min() - 1e-9).all() and (smooth <= x.max() + 1e-9).all()
    np.testing.assert_allclose(
        smoothed(scale * x + shift, similar, share, 3), scale * smooth + shift, atol=1e-9
    )


def test_similarities_are_those_of_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["wing lift lift", "wing drag", "heat flow heat", "lift", "of"]
    hits = [hit(str(i), 1.0, text) for i, text in enumerate(texts)]
    found = TfidfVectorizer(analyzer=str.split, sublinear_tf=True).fit_transform(texts)
    expected = (found @ found.T).toarray()
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(similarities(hits), expected, atol=1e-12)
    same = [hit("a", 1.0, "wing lift", "d"), hit("b", 1.0, "wing lift", "d")]
    np.testing.assert_array_equal(similarities(same), np.zeros((2, 2)))


def test_neighbours_lift_a_hit_among_good_ones() -> None:
    hits = [
        hit("a", 1.0, "boundary layer heat transfer"),
        hit("lonely", 0.8, "payroll of a bank"),
        hit("near", 0.7, "heat transfer of a boundary layer"),
        hit("far", 0.1, "bank accounts and payroll"),
    ]
    again = reranked(lambda q, top: hits[:top], neighbour_reranker(0.5, 1))
    assert names(again("q", 4)) == ["a", "near", "lonely", "far"]
    unchanged = reranked(lambda q, top: hits[:top], neighbour_reranker(0.0))
    assert names(unchanged("q", 4)) == names(hits)
    assert reranked(lambda q, top: [], neighbour_reranker())("q", 3) == []
    with pytest.raises(ConfigurationError, match="share is 2"):
        neighbour_reranker(2)


def test_a_cross_encoder_reads_heading_and_text() -> None:
    class Model:
        def predict(self, pairs: list[tuple[str, str]], activation: str) -> np.ndarray:
            assert activation == "identity" and pairs[0] == ("q", "Rank\ntext")
            return np.array([float(len(passage)) for _, passage in pairs])

    headed = Hit(Chunk("x", "x", "text", 0, 4, heading="Rank"), 1.0)
    found = cross_encoder_reranker(Model())("q", [headed, hit("y", 0.5)])  # type: ignore[arg-type]
    assert found == [9.0, 1.0]
