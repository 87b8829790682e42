"""The filters equal a plain numpy reference everywhere and transformers' where ties do not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import TopKLogitsWarper, TopPLogitsWarper

from llmwright.core import SamplingParams
from llmwright.inference.sampling import (
    keep_top_k,
    keep_top_p,
    logprob_of,
    next_token_distribution,
    sample,
)

# Few distinct values make ties common; the wide ones make peaked distributions common.
TIED = st.lists(st.sampled_from([-4.0, -1.0, 0.0, 0.5, 3.0]), min_size=1, max_size=12)
WIDE = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=12)
ANY = st.one_of(TIED, WIDE)
MASS = st.floats(0.01, 1.0)


def reference(logits: list[float], temperature: float, k: int, p: float) -> np.ndarray:
    """The definition read aloud, one token at a time; in double precision, after what decides
    which logits are equal: -1e-26 and 0 are, once 0.5 is taken from both in single precision."""
    shifted = np.float32(logits) - np.float32(max(logits))
    z = [float(x) for x in shifted / np.float32(temperature)]
    ranking = sorted(range(len(z)), key=lambda i: (-z[i], i))
    if k:
        ranking = ranking[:k]
    weights = {i: math.exp(z[i] - max(z)) for i in ranking}
    total = sum(weights.values())
    kept, mass = [], 0.0
    for i in ranking:
        kept.append(i)
        mass += weights[i] / total
        if p < 1.0 and mass >= p:
            break
    out = np.zeros(len(z))
    for i in kept:
        out[i] = weights[i] / sum(weights[j] for j in kept)
    return out


@settings(max_examples=300, deadline=None)
@example([-3.5e-26, 0.0, 0.0, 0.5], 0.25, 0, 0.75)
@given(ANY, st.sampled_from([0.25, 1.0, 1.7]), st.integers(0, 14), MASS)
def test_distribution_equals_the_definition(logits, temperature, k, p):
    params = SamplingParams(temperature=temperature, top_k=k, top_p=p)
    ours = next_token_distribution(torch.tensor(logits), params).double().numpy()
    expected = reference(logits, temperature, k, p)
    # Where the mass meets p within rounding, single and double precision may part by one token.
    nearby = [reference(logits, temperature, k, min(max(p + d, 1e-9), 1.0)) for d in (-1e-5, 1e-5)]
    assert any(np.allclose(ours, want, atol=2e-5) for want in [expected, *nearby])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40, unique=True), st.data())
def test_filters_equal_transformers(logits, data):
    row = torch.tensor([logits])
    k = data.draw(st.integers(1, len(logits)))
    assert torch.equal(keep_top_k(row, k), TopKLogitsWarper(k)(None, row))
    p = data.draw(st.floats(0.05, 0.95))
    ours, theirs = keep_top_p(row, p), TopPLogitsWarper(p)(None, row)
    if not torch.equal(ours, theirs):  # allowed only where the mass meets p within rounding
        counts = sorted((int(ours.isfinite().sum()), int(theirs.isfinite().sum())))
        mass = row.double().softmax(-1).sort(descending=True).values.cumsum(-1)[0]
        assert all(abs(float(mass[n - 1]) - p) < 1e-5 for n in range(counts[0], counts[1]))


@settings(max_examples=200, deadline=None)
@given(ANY, MASS, st.integers(1, 14))
def test_laws(logits, p, k):
    row = torch.tensor(logits)
    for kept in (keep_top_p(row, p), keep_top_k(row, k)):
        alive = kept.isfinite()
        assert alive.any()
        assert torch.equal(kept[alive], row[alive])  # survivors are untouched
        assert alive[row.argmax()]
        if not alive.all():  # every survivor is at least as likely as every token dropped
            assert row[alive].min() >= row[~alive].max()
    assert int(keep_top_k(row, k).isfinite().sum()) == min(k, len(logits))
    mass = row.double().softmax(-1)[keep_top_p(row, p).isfinite()].sum()
    assert mass >= p - 1e-5


def test_temperature_comes_before_truncation():
    params = SamplingParams(temperature=0.5, top_p=0.8)
    kept = next_token_distribution(torch.tensor([3.0, 2.0, 1.0]), params) > 0
    assert kept.tolist() == [True, False, False]  # llama.cpp's order would keep two


def test_ties_go_to_the_lowest_ids():
    row = torch.tensor([1.0, 2.0, 2.0, 2.0])
    assert keep_top_k(row, 2).isfinite().tolist() == [False, True, True, False]
    assert keep_top_p(torch.zeros(4), 0.5).isfinite().tolist() == [True, True, False, False]
    assert sample(row, SamplingParams(temperature=0.0)) == 1


def test_flat_vocabulary_takes_the_sorting_path_and_agrees():
    row = torch.randn(5000, generator=torch.Generator().manual_seed(0)) * 0.1
    kept = keep_top_p(row, 0.9)
    assert torch.equal(kept[None], TopPLogitsWarper(0.9)(None, row[None]))
    assert int(kept.isfinite().sum()) > 1024


def test_rows_are_filtered_each_on_its_own():
    rows = torch.randn(6, 50, generator=torch.Generator().manual_seed(1)) * 3
    assert torch.equal(keep_top_p(rows, 0.7), torch.stack([keep_top_p(row, 0.7) for row in rows]))
    assert torch.equal(keep_top_k(rows, 7), torch.stack([keep_top_k(row, 7) for row in rows]))


def test_draws_follow_the_distribution():
    logits = torch.tensor([1.0, 3.0, -2.0, 2.5, 2.0, -1.0])
    params = SamplingParams(temperature=1.3, top_k=4, top_p=0.95)
    generator = torch.Generator().manual_seed(7)
    draws = 20_000
    counts = np.bincount([sample(logits, params, generator) for _ in range(draws)], minlength=6)
    expected = next_token_distribution(logits, params).double().numpy() * draws
    assert (counts[expected == 0] == 0).all()
    alive = expected > 0
    chi2 = ((counts[alive] - expected[alive]) ** 2 / expected[alive]).sum()
    assert chi2 < 18.5  # 99.9th percentile at 4 degrees of freedom; the seed fixes the outcome


def test_equal_seeds_draw_equal_tokens():
    logits, params = torch.randn(100), SamplingParams(temperature=1.0)

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return [sample(logits, params, generator) for _ in range(30)]

    assert run(3) == run(3)
    assert run(3) != run(4)


@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 100.0])
def test_extreme_temperatures_stay_finite(temperature):
    row = torch.tensor([1e30, -1e30, 0.0])
    probabilities = next_token_distribution(row, SamplingParams(temperature=temperature))
    assert probabilities.tolist() == [1.0, 0.0, 0.0]


def test_logprob_is_of_the_untempered_distribution():
    logits = torch.randn(4, 30)
    ids = torch.tensor([3, 0, 29, 7])
    expected = logits.log_softmax(-1)[torch.arange(4), ids]
    torch.testing.assert_close(logprob_of(logits, ids), expected)
