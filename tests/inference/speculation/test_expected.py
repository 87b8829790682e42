"""The arithmetic of speculation against sums, simulation and published figures."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError
from llmwright.inference.speculation import (
    acceptance_rate,
    best_length,
    expected_speedup,
    expected_tokens,
)


def test_the_worked_example():
    assert expected_tokens(0.8, 5) == pytest.approx(3.689, abs=5e-4)
    assert expected_speedup(0.8, 5, 0.05) == pytest.approx(2.951, abs=5e-4)


@given(a=st.floats(0.0, 0.99), k=st.integers(0, 20))
def test_tokens_are_the_sum_over_how_far_a_round_gets(a, k):
    by_outcome = sum((i + 1) * a**i * (1 - a) for i in range(k)) + (k + 1) * a**k
    assert expected_tokens(a, k) == pytest.approx(by_outcome)
    assert expected_tokens(a, k) == pytest.approx((1 - a ** (k + 1)) / (1 - a))


def test_at_the_ends():
    assert expected_tokens(1.0, 4) == 5.0
    assert expected_tokens(0.0, 4) == 1.0
    assert expected_speedup(0.9, 0, 0.3) == 1.0


def test_the_best_length_is_zero_where_a_draft_costs_what_it_gives():
    assert best_length(0.3, 0.3, 8) == 0
    assert best_length(0.31, 0.3, 8) == 1
    assert best_length(1.0, 0.2, 8) == 8
    assert best_length(0.8, 0.05, 20) == 8


def test_the_acceptance_rate_is_one_less_the_total_variation():
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.2, 0.3, 0.5])
    assert float(acceptance_rate(p, q)) == pytest.approx(0.5)
    assert float(acceptance_rate(p, q)) == pytest.approx(1 - float((p - q).abs().sum()) / 2)
    each = acceptance_rate(torch.stack([p, p]), torch.stack([q, p]))
    assert each.tolist() == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize(
    ("a", "k", "what"),
    [
        (1.1, 2, "acceptance: an acceptance rate of 1.1; give one from 0 to 1"),
        (-0.1, 2, "acceptance rate of -0.1"),
        (0.5, -1, "length: a draft of -1 tokens; give 0"),
    ],
)
def test_impossible_arguments_are_named(a, k, what):
    with pytest.raises(ConfigurationError, match=what):
        expected_tokens(a, k)
