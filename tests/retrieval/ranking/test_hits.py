"""What changes the order of hits: marginal relevance, time decay, near-duplicates; by laws,
brute force and worked examples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hashing_embedder import HashingEmbedder
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import Chunk, ConfigurationError, Hit, InputError
from llmwright.retrieval.ranking.decay import read_date, time_decay
from llmwright.retrieval.ranking.diversity import (
    marginal_order,
    maximal_marginal_relevance,
    overlaps,
)
from llmwright.retrieval.ranking.duplicates import drop_near_duplicates
from llmwright.retrieval.ranking.rearrange import rearranged

NOW = datetime(2024, 6, 1, tzinfo=UTC)
YEAR = timedelta(days=366)


def hit(text: str, score: float = 1.0, **metadata: str) -> Hit:
    return Hit(Chunk(text, "d", text, 0, len(text), language="en", metadata=metadata), score)


def texts(hits) -> list[str]:
    return [found.chunk.text for found in hits]


SCORED = st.lists(st.integers(0, 20), min_size=1, max_size=8)


@given(SCORED, st.integers(1, 9), st.integers(0, 4), st.integers(0, 99))
def test_each_choice_is_the_best_that_is_left(scores, top, balance, seed):
    """Against the definition, choice by choice, over all that is left."""
    relevance, share = np.array(scores, float) / 20, balance / 4
    vectors = np.random.default_rng(seed).integers(-2, 3, (len(scores), 3)).astype(float)
    similar = vectors @ vectors.T
    order = marginal_order(relevance, similar, top, share)
    assert len(order) == len(set(order)) == min(top, len(scores))
    for place, row in enumerate(order):
        chosen = order[:place]

        def gain(d, chosen=chosen):
            near = max((similar[d, c] for c in chosen), default=0.0)
            return share * relevance[d] - (1 - share) * near

        left = [d for d in range(len(scores)) if d not in chosen]
        assert gain(row) == pytest.approx(max(map(gain, left)))


@given(SCORED, st.booleans())
def test_relevance_alone_changes_nothing(scores, embed):
    hits = [hit(f"text {n}", score) for n, score in enumerate(sorted(scores, reverse=True))]
    embedder = HashingEmbedder() if embed else None
    assert maximal_marginal_relevance(hits, 9, balance=1, embedder=embedder) == hits


@pytest.mark.parametrize("embedder", [None, HashingEmbedder(dimension=256)])
def test_what_repeats_makes_room_for_what_is_new(embedder):
    hits = [
        hit("the cat sat on the mat", 1.0),
        hit("the cat sat on the mat again", 0.9),
        hit("dogs bark", 0.7),
    ]
    found = maximal_marginal_relevance(hits, 2, balance=0.5, embedder=embedder)
    assert found == [hits[0], hits[2]]
    assert maximal_marginal_relevance(hits, 3, balance=0.9, embedder=embedder)[1] == hits[1]
    assert maximal_marginal_relevance([], 3) == []
    with pytest.raises(ConfigurationError, match=r"balance is 1.5; give 0 to 1"):
        maximal_marginal_relevance(hits, 2, balance=1.5)


def test_terms_in_common():
    similar = overlaps([hit("cats and dogs"), hit("cat"), hit("?!"), hit("a b c d")])
    assert similar[0, 1] == pytest.approx(1 / np.sqrt(3))
    assert similar.diagonal() == pytest.approx([1, 1, 0, 1])
    assert similar[2].tolist() == [0, 0, 0, 0]


def test_a_hit_a_half_life_old_counts_half():
    hits = [hit("old", 1.0, date="2023-06-01"), hit("new", 0.6, date="2024-06-01T00:00:00+00:00")]
    decayed = time_decay(hits, half_life=YEAR, now=NOW, undated=0.5)
    assert [(found.chunk.text, found.score) for found in decayed] == [("new", 0.6), ("old", 0.5)]
    later = time_decay(hits, half_life=YEAR, now=NOW + YEAR, undated=0.5)
    assert [found.score for found in later] == pytest.approx([0.3, 0.25])


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 9999)), max_size=8))
def test_older_never_scores_more_and_order_among_equals_stays(given_hits):
    hits = [
        hit(str(n), score, date=(NOW - timedelta(days=age)).isoformat())
        for n, (score, age) in enumerate(given_hits)
    ]
    decayed = time_decay(hits, half_life=YEAR, now=NOW, undated=0)
    before = {found.chunk.id: found.score for found in hits}
    assert sorted(texts(decayed)) == sorted(texts(hits))
    assert all(found.score <= before[found.chunk.id] for found in decayed)
    today = time_decay(hits, half_life=YEAR, now=datetime(1990, 1, 1), undated=0)
    assert today == sorted(hits, key=lambda found: -found.score)  # all in the future


def test_what_has_no_date_counts_what_was_said():
    hits = [hit("dated", 0.5, date="2024-06-01"), hit("undated", 1.0), hit("empty", 1.0, date=" ")]
    decayed = time_decay(hits, half_life=YEAR, now=NOW, undated=0.25)
    assert [(found.chunk.text, found.score) for found in decayed] == [
        ("dated", 0.5), ("undated", 0.25), ("empty", 0.25),
    ]  # fmt: skip
    when = {"half_life": YEAR, "now": NOW, "key": "published"}
    assert time_decay(hits, undated=1, **when)[0].chunk.text == "undated"


def test_dates_as_they_are_written():
    assert read_date("2024", "") == datetime(2024, 1, 1, tzinfo=UTC)
    assert read_date("2024-05", "") == datetime(2024, 5, 1, tzinfo=UTC)
    assert read_date("20240531", "") == read_date("2024-05-31", "")
    assert read_date("2024-05-31T01:00:00+01:00", "") == datetime(2024, 5, 31, tzinfo=UTC)
    with pytest.raises(InputError, match=r"chunk 'x', date: 'May' is no date; write it as 2024-"):
        time_decay([hit("x", date="May")], half_life=YEAR, now=NOW, undated=1)
    with pytest.raises(InputError, match="'2024-13' is no date"):
        read_date("2024-13", "here")
    for wrong in ({"half_life": timedelta(0), "undated": 1}, {"half_life": YEAR, "undated": 2}):
        with pytest.raises(ConfigurationError, match=r"half_life is .* and undated"):
            time_decay([], now=NOW, **wrong)


def test_near_duplicates_give_way_to_the_first():
    long = "one two three four five six seven eight nine ten eleven twelve"
    hits = [
        hit(long),
        hit("One, two three four five six seven!"),  # inside
        hit("five six seven eight nine ten eleven twelve thirteen fourteen"),  # 6 of 8 runs
        hit("ten"),
        hit("TEN"),
        hit("?"),
        hit("!"),
    ]
    kept = texts(drop_near_duplicates(hits))
    assert kept == [hits[i].chunk.text for i in (0, 2, 3, 5, 6)]
    assert len(drop_near_duplicates(hits, threshold=0.75)) == 4
    assert drop_near_duplicates([]) == []
    with pytest.raises(ConfigurationError, match="threshold is 0; give more than 0, up to 1"):
        drop_near_duplicates(hits, threshold=0)


@given(st.lists(st.sampled_from(["a b c", "a b c d", "x y z", "p", "a b c d e f g"]), max_size=8))
def test_dropping_twice_is_dropping_once_and_every_dropped_hit_is_held_by_a_kept_one(found):
    hits = [hit(text) for text in found]
    kept = drop_near_duplicates(hits)
    assert drop_near_duplicates(kept) == kept
    for dropped in hits:
        assert any(dropped.chunk.text in k or k in dropped.chunk.text for k in texts(kept))


def test_a_rearranged_search_looks_deeper_than_it_shows():
    asked = []

    def search(query: str, top: int) -> list[Hit]:
        asked.append((query, top))
        return [hit(f"text {n} of {query} here", 1 / (n + 1)) for n in range(top)]

    reverse = rearranged(search, lambda hits: hits[::-1], lambda hits: hits[1:], depth=5)
    assert texts(reverse("q", 2)) == ["text 3 of q here", "text 2 of q here"]
    assert len(reverse("q", 8)) == 7
    assert asked == [("q", 5), ("q", 8)]
