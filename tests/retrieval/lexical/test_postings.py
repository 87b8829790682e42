"""The inverted file: merged as if built at once; kept whole on disk; every count exact."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.retrieval.lexical import scoring
from llmwright.retrieval.lexical.arrays import Arrays, write_arrays
from llmwright.retrieval.lexical.postings import Postings
from llmwright.retrieval.lexical.scoring import posting_order
from llmwright.retrieval.lexical.terms import PostingsBuilder, passage_terms

PASSAGES = st.lists(st.lists(st.integers(-4, 5), max_size=9), min_size=1, max_size=12)


def build(passages: list[list[int]]) -> Postings:
    terms = np.array([term for passage in passages for term in passage], np.int64)
    return Postings.build(terms, np.array([len(passage) for passage in passages], np.int64))


def same(one: Postings, other: Postings) -> None:
    for field in fields(Postings):
        ours, theirs = getattr(one, field.name)[:], getattr(other, field.name)[:]
        np.testing.assert_array_equal(ours, theirs, err_msg=field.name)


def counted(postings: Postings) -> list[Counter[int]]:
    """What the file says of each passage."""
    passages = [Counter[int]() for _ in postings.lengths]
    for place, term in enumerate(postings.terms.tolist()):
        rows = postings.rows[slice(*postings.starts[place : place + 2])].tolist()
        counts = postings.counts[slice(*postings.many[place : place + 2])].tolist()
        for row, count in zip(rows, [1] * (len(rows) - len(counts)) + counts, strict=True):
            passages[row][term] = count
    return passages


@given(PASSAGES)
def test_it_says_how_often_each_passage_holds_each_term(passages):
    postings = build(passages)
    assert counted(postings) == [Counter(passage) for passage in passages]
    assert postings.lengths.tolist() == [len(passage) for passage in passages]
    for row, passage in enumerate(passages):
        stems, counts = postings.passage(row)
        expected = Counter(term for term in passage if term >= 0)
        assert dict(zip(stems.tolist(), counts.tolist(), strict=True)) == expected


@given(PASSAGES, st.data())
def test_merged_it_is_as_if_built_at_once(passages, data):
    """Any cut into segments, any order of the new rows, any passages dropped."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(passages)))) | {0, len(passages)})
    alive = data.draw(st.lists(st.booleans(), min_size=len(passages), max_size=len(passages)))
    order = data.draw(st.permutations([row for row, lives in enumerate(alive) if lives]))
    moved = np.full(len(passages), -1, np.int64)
    moved[order] = np.arange(len(order))
    spans = list(itertools.pairwise(cuts))
    merged = Postings.merge(
        [build(passages[a:b]) for a, b in spans], [moved[a:b] for a, b in spans]
    )
    same(merged, build([passages[row] for row in order]))


def test_counts_of_any_size_are_exact(tmp_path):
    passages = [[7] * 255, [7] * 256 + [-1], [7] * 70_000, [7]]
    postings = build(passages)
    assert counted(postings) == [Counter(passage) for passage in passages]
    merged = Postings.merge([postings, build([[7, 7]])], [np.array([3, -1, 0, 1]), np.array([2])])
    assert [c[7] for c in counted(merged)[:3]] == [70_000, 1, 2]


def test_saved_and_loaded_it_is_the_same(tmp_path):
    for number, passages in enumerate(([[]], [[1, 2, -3], [2, 2]], [[n] for n in range(40_000)])):
        file = tmp_path / str(number)
        write_arrays(file, build(passages).arrays())
        loaded = Postings.of_arrays(Arrays(file))
        same(loaded, build(passages))
        for row in range(min(len(passages), 5)):
            for ours, theirs in zip(loaded.passage(row), build(passages).passage(row), strict=True):
                np.testing.assert_array_equal(ours, theirs)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 9)), max_size=60))
def test_entries_are_ordered_the_same_without_a_compiler(entries):
    terms = np.array([term for term, _ in entries], np.int32)
    rows = np.array([row for _, row in entries], np.uint16)
    expected = sorted(range(len(entries)), key=lambda i: entries[i])
    for switch in ("1", "0"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LLMWRIGHT_NATIVE", switch)
            assert bool(scoring.LIBRARY.available()) == (switch == "1")
            assert posting_order(terms, rows, 200_001, 10).tolist() == expected


TEXTS = [
    ("Models model the modelling of a model.", "en"),
    ("Модели моделей, and some English words", "ru"),
    ("机器学习 max_new_tokens ไทย", ""),
    ("", "en"),
    ("model", "de"),
]


def test_a_builder_counts_what_the_analysis_says():
    terms = [passage_terms(text, language) for text, language in TEXTS]
    expected = Postings.build(np.concatenate(terms), np.array([len(t) for t in terms]))
    builder = PostingsBuilder()
    for _ in range(2):  # words it knows, and words it does not
        same(builder.build(*map(list, zip(*TEXTS, strict=True))), expected)
