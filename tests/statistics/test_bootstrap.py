from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from llmwright.core import ConfigurationError, Score
from llmwright.statistics import bootstrap_interval, mean_score, paired_bootstrap

finite = st.floats(-1e6, 1e6)


def test_equals_scipy_percentile_bootstrap() -> None:
    x = np.random.default_rng(3).gamma(2.0, size=80)
    expected = stats.bootstrap(
        (x,),
        np.mean,
        n_resamples=1000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(11),
        vectorized=True,
    ).confidence_interval
    low, high = bootstrap_interval(x.tolist(), seed=11, resamples=1000, level=0.9)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_agrees_with_the_normal_interval_for_many_values() -> None:
    x = np.random.default_rng(0).normal(5.0, 2.0, size=4000)
    low, high = bootstrap_interval(x.tolist(), seed=1)
    half = 1.959964 * x.std() / math.sqrt(x.size)
    assert low == pytest.approx(x.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(x.mean() + half, abs=0.1 * half)


def test_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(300):
        low, high = bootstrap_interval(rng.normal(size=40).tolist(), seed=trial, resamples=500)
        assert low is not None and high is not None
        covered += low <= 0.0 <= high
    # 95% nominal; the percentile method with 40 values reaches about 94%, and 300 trials
    # spread by 1.3 points.
    assert 0.90 <= covered / 300 <= 0.985


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(2).random(50).tolist()
    whole = bootstrap_interval(x, seed=9)
    monkeypatch.setattr("llmwright.statistics.bootstrap._BLOCK", 170)  # 3 rows a block
    assert bootstrap_interval(x, seed=9) == whole


def test_nothing_one_and_equal_values() -> None:
    assert bootstrap_interval([]) == (None, None)
    assert bootstrap_interval([0.3]) == (0.3, 0.3)
    assert bootstrap_interval([1.0] * 30) == (1.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(finite, min_size=2, max_size=30), st.integers(0, 99))
def test_interval_lies_within_the_values_and_repeats(values: list[float], seed: int) -> None:
    low, high = bootstrap_interval(values, seed=seed, resamples=200)
    assert low is not None and high is not None
    slack = 1e-9 * max(abs(v) for v in values)
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert (low, high) == bootstrap_interval(values, seed=seed, resamples=200)


def test_mean_score_leaves_unscored_examples_out_and_counts_them() -> None:
    score = mean_score("f1", [1.0, None, 0.0, 0.5, None], seed=1)
    assert (score.value, score.n, score.unscored) == (0.5, 3, 2)
    assert score.low is not None and score.high is not None and score.low <= 0.5 <= score.high
    nothing = mean_score("f1", [None, None])
    assert (nothing.value, nothing.low, nothing.high, nothing.n, nothing.unscored) == (
        None,
        None,
        None,
        0,
        2,
    )


def test_pairing_removes_common_difficulty() -> None:
    rng = np.random.default_rng(4)
    a = rng.normal(0.0, 10.0, size=100)  # examples differ far more than the systems do
    b = a + 0.5 + rng.normal(0.0, 0.1, size=100)
    paired = paired_bootstrap(a.tolist(), b.tolist(), seed=2)
    assert paired.low is not None and paired.high is not None
    assert 0.0 < paired.low <= 0.5 <= paired.high + 0.05
    assert paired.high - paired.low < 0.1
    assert paired_bootstrap([1.0, None, 0.0], [None, 1.0, 1.0]).n == 1


def test_the_defaults_are_2000_samples_seed_0_and_95_percent() -> None:
    x = np.random.default_rng(6).normal(size=40).tolist()
    interval = bootstrap_interval(x, seed=0, resamples=2000, level=0.95)
    assert bootstrap_interval(x) == interval
    score = mean_score("f1", x)
    assert score == Score("f1", pytest.approx(np.mean(x)), *interval, n=40)
    assert paired_bootstrap([0.0] * 40, x) == replace(score, name="difference")
    other = bootstrap_interval(x, seed=3)
    assert other != interval
    for scored in (mean_score("f1", x, 3), paired_bootstrap([0.0] * 40, x, 3)):
        assert (scored.low, scored.high) == other


def test_the_difference_is_the_second_less_the_first_of_what_both_scored() -> None:
    score = paired_bootstrap([1.0, None, 0.0, 0.5], [3.0, 1.0, None, 1.5])
    assert (score.value, score.n, score.unscored) == (1.5, 2, 2)


def test_limits_of_what_can_be_asked() -> None:
    assert bootstrap_interval([0.0, 1.0], resamples=1, level=0.01)[0] in (0.0, 0.5, 1.0)
    assert bootstrap_interval([0.0, 1.0], level=0.999) == (0.0, 1.0)


def test_refuses_what_it_cannot_use() -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(ConfigurationError, match=r"^bootstrap: a value is not a finite number"):
            bootstrap_interval([0.0, value])
    for wrong in ({"level": 1.0}, {"level": 0.0}, {"resamples": 0}):
        given = {"resamples": 2000, "level": 0.95, **wrong}
        with pytest.raises(ConfigurationError) as caught:
            bootstrap_interval([0.0, 1.0], **wrong)  # type: ignore[arg-type]
        assert str(caught.value) == (
            f"bootstrap: resamples is {given['resamples']} and level {given['level']}; "
            "use at least 1 resample and a level between 0 and 1."
        )
    with pytest.raises(
        ConfigurationError, match=r"^paired bootstrap: 2 values against 1; pass both"
    ):
        paired_bootstrap([1.0, 2.0], [1.0])
