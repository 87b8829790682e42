"""Prompt look-up against a search of the whole text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError
from llmwright.inference.speculation import Ask, NGramProposer, ngram

TEXTS = st.lists(st.integers(0, 3), min_size=1, max_size=60)


def propose(proposer, key, tokens, length):
    """A greedy draft for one sequence."""
    return proposer.propose([Ask(key, tokens, length)])[0]


def search(tokens, length, min_n, max_n):
    """The same by brute force: all earlier ends, the longest common suffix, the latest of those."""
    best, best_n = None, 0
    for end in range(1, len(tokens)):
        n = 0
        while n < min(end, max_n) and tokens[end - 1 - n] == tokens[-1 - n]:
            n += 1
        if n >= min_n and n >= best_n:
            best, best_n = end, n
    if best is None or not length:
        return ()
    text = list(tokens)
    for place in range(length):  # copying from the growing text is what continues a circle
        text.append(text[best + place])
    return tuple(text[len(tokens) :])


@given(tokens=TEXTS, length=st.integers(0, 8), min_n=st.integers(1, 3), more=st.integers(0, 5))
def test_the_draft_follows_the_longest_latest_match(tokens, length, min_n, more):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram, "_CANDIDATES", 1000)
        draft = propose(NGramProposer(min_n, min_n + more), 0, tokens, length)
    assert draft.tokens == search(tokens, length, min_n, min_n + more)
    assert draft.probabilities is None


@given(tokens=TEXTS, cuts=st.lists(st.integers(1, 60), max_size=6))
def test_an_index_that_grew_answers_as_a_fresh_one(tokens, cuts):
    grown = NGramProposer(2, 6)
    for cut in sorted(cuts):
        propose(grown, 5, tokens[:cut], 4)
    assert propose(grown, 5, tokens, 4) == propose(NGramProposer(2, 6), 5, tokens, 4)


def test_sequences_are_kept_apart_and_forgotten():
    proposer = NGramProposer(2, 4)
    quoting, other = [1, 2, 3, 4, 1, 2], [9, 8, 1, 2]
    asks = [Ask(1, quoting, 3), Ask(2, other, 3), Ask(1, quoting, 0)]
    assert [draft.tokens for draft in proposer.propose(asks)] == [(3, 4, 1), (), ()]
    longer = [*other, 4, 5, 9, 8]  # continues by its own beginning, though 1 and 2 stand there too
    assert [draft.tokens for draft in proposer.propose([Ask(2, longer, 2)])] == [(1, 2)]
    mixed = [Ask(1, [*quoting, 3], 1), Ask(2, [*longer, 1], 1)]
    assert [draft.tokens for draft in proposer.propose(mixed)] == [(4,), (2,)]
    proposer.forget(1)
    proposer.forget(77)
    assert propose(proposer, 1, [1, 2], 3).tokens == ()


def test_a_text_that_runs_in_a_circle_is_continued():
    assert propose(NGramProposer(2, 4), 0, [5, 6, 7, 5, 6, 7, 5, 6], 7).tokens == (
        7, 5, 6, 7, 5, 6, 7,
    )  # fmt: skip


def test_a_token_that_repeats_endlessly_costs_a_bounded_search(monkeypatch):
    looked = 0

    class Counting(list):
        def __getitem__(self, place):
            nonlocal looked
            looked += isinstance(place, int)
            return super().__getitem__(place)

    proposer = NGramProposer(3, 16)
    tokens = [1] * 3000 + [2, 3, 4] + [9, 1, 1] * 500 + [7, 1, 1]
    propose(proposer, 0, Counting(tokens), 4)
    assert looked <= 2 * 16 * 16


@pytest.mark.parametrize(("low", "high"), [(0, 3), (4, 3)])
def test_impossible_lengths_are_named(low, high):
    with pytest.raises(
        ConfigurationError,
        match=f"^min_n, max_n: n-grams of {low} to {high} tokens; give 1 <= min_n",
    ):
        NGramProposer(low, high)


def test_only_the_16_latest_places_are_looked_at():
    def text(between):
        return [5, 6, 7, 1, *[8, 7, 2] * between, 5, 6, 7]

    assert propose(NGramProposer(1, 4), 0, text(15), 1).tokens == (1,)
    assert propose(NGramProposer(1, 4), 0, text(16), 1).tokens == (2,)


def test_a_text_that_became_shorter_is_another_text():
    proposer = NGramProposer(2, 4)
    propose(proposer, 0, [1, 2, 3, 1, 2], 1)
    assert propose(proposer, 0, [1, 2, 1, 2], 1).tokens == (1,)
