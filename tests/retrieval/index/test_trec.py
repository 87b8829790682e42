"""TREC runs: the format, and scores that keep the order under any tool's sorting."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import InputError
from llmwright.retrieval import trec_lines


def test_lines():
    assert list(trec_lines("q1", [("a", 0.5), ("b", 0.25)])) == [
        "q1 Q0 a 1 0.5 llmwright",
        "q1 Q0 b 2 0.25 llmwright",
    ]


@given(st.lists(st.floats(-2, 20), max_size=30).map(lambda s: sorted(s, reverse=True)))
def test_printed_scores_fall_strictly(scores):
    lines = [line.split() for line in trec_lines("q", [(f"d{i}", s) for i, s in enumerate(scores)])]
    printed = [float(line[4]) for line in lines]
    assert all(one > two for one, two in pairwise(printed))
    assert [int(line[3]) for line in lines] == list(range(1, len(scores) + 1))


@pytest.mark.parametrize("ids", [("q 1", "d"), ("q", "a b"), ("q", "")])
def test_ids_with_white_space_are_refused(ids):
    with pytest.raises(InputError, match="cannot stand in a TREC run"):
        list(trec_lines(ids[0], [(ids[1], 1.0)]))
