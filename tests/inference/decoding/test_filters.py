"""The filters equal a plain numpy reference everywhere and transformers' where ties do not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from llmwright.core import SamplingParams
from llmwright.inference.decoding import (
    SamplingState,
    distribution,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    logprob_of,
    top_alternatives,
)

# Few distinct values make ties common; the wide ones make peaked distributions common.
TIED = st.lists(st.sampled_from([-4.0, -1.0, 0.0, 0.5, 3.0]), min_size=1, max_size=12)
WIDE = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=12)
ANY = st.one_of(TIED, WIDE)
APART = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40, unique=True)
MASS = st.floats(0.01, 1.0)


def drawn_from(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Probabilities [rows, vocab] of rows that are all drawn by the same parameters."""
    return distribution(logits, [SamplingState(params)] * len(logits))


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


@settings(max_examples=300)
@example([-3.5e-26, 0.0, 0.0, 0.5], 0.25, 0, 0.75)
@given(ANY, st.sampled_from([0.25, 1.0, 1.7]), st.integers(0, 14), MASS)
def test_distribution_equals_the_definition(logits, temperature, k, p):
    params = SamplingParams(temperature=temperature, top_k=k, top_p=p)
    ours = drawn_from(torch.tensor([logits]), params)[0].double().numpy()
    expected = reference(logits, temperature, k, p)
    # Where the mass meets p within rounding, single and double precision may part by one token.
    nearby = [reference(logits, temperature, k, min(max(p + d, 1e-9), 1.0)) for d in (-1e-5, 1e-5)]
    assert any(np.allclose(ours, want, atol=2e-5) for want in [expected, *nearby])


@settings(max_examples=200)
@given(APART, st.data())
def test_top_k_and_top_p_equal_transformers(logits, data):
    row = torch.tensor([logits])
    k = data.draw(st.integers(1, len(logits)))
    assert torch.equal(keep_top_k(row, k), TopKLogitsWarper(k)(None, row))
    p = data.draw(st.floats(0.05, 0.95))
    ours, theirs = keep_top_p(row, p), TopPLogitsWarper(p)(None, row)
    if not torch.equal(ours, theirs):  # allowed only where the mass meets p within rounding
        counts = sorted((int(ours.isfinite().sum()), int(theirs.isfinite().sum())))
        mass = row.double().softmax(-1).sort(descending=True).values.cumsum(-1)[0]
        assert all(abs(float(mass[n - 1]) - p) < 1e-5 for n in range(counts[0], counts[1]))


@settings(max_examples=200)
@given(APART, st.floats(0.001, 1.0))
def test_min_p_equals_transformers(logits, share):
    row = torch.tensor([logits])
    ours, theirs = keep_min_p(row, share), MinPLogitsWarper(share)(None, row)
    p = row.double().softmax(-1)
    edge = (p / p.max() - share).abs() < 1e-6  # equal within rounding: either is right
    assert torch.equal(ours.isfinite() | edge, theirs.isfinite() | edge)
    assert ours.isfinite().any()


@settings(max_examples=200)
@given(APART, st.floats(0.05, 0.99))
def test_typical_equals_transformers(logits, mass):
    row = torch.tensor([logits])
    ours = keep_typical(row, mass)
    theirs = TypicalLogitsWarper(mass)(None, row)
    if not torch.equal(ours, theirs):  # the mass met within rounding, or tokens equally far
        p = row.double().softmax(-1)[0]
        distance = (-p.log() - torch.special.entr(p).sum()).abs()
        order = distance.argsort()
        total = p[order].cumsum(-1)
        counts = sorted((int(ours.isfinite().sum()), int(theirs.isfinite().sum())))
        between = range(counts[0], counts[1] + 1)
        met = any(abs(float(total[n - 1]) - mass) < 1e-5 for n in between)
        gaps = [
            abs(float(distance[order[n]] - distance[order[n - 1]])) for n in between if n < len(p)
        ]
        assert met or min(gaps) < 1e-5


def test_typical_may_drop_the_likeliest_and_ignores_what_is_impossible():
    p = torch.tensor([0.45, 0.14, 0.14, 0.14, 0.13])
    kept = keep_typical(p.log(), 0.5).isfinite()
    assert kept.tolist() == [False, True, True, True, True]  # H = 1.45: 0.45 says too little
    withheld = torch.cat([p.log(), torch.tensor([-torch.inf])])
    assert keep_typical(withheld, 0.5).isfinite().tolist() == [*kept.tolist(), False]
    # Equally far from H: ours stops at the mass, transformers keeps all of them.
    even = torch.zeros(1, 4)
    assert int(keep_typical(even, 0.5).isfinite().sum()) == 2
    assert int(TypicalLogitsWarper(0.5)(None, even).isfinite().sum()) == 4


@settings(max_examples=200)
@given(ANY, MASS, st.integers(1, 14))
def test_laws(logits, p, k):
    row = torch.tensor(logits)
    for kept in (keep_top_p(row, p), keep_top_k(row, k), keep_min_p(row, p)):
        alive = kept.isfinite()
        assert alive.any()
        assert torch.equal(kept[alive], row[alive])  # survivors are untouched
        assert alive[row.argmax()]
        if not alive.all():  # every survivor is at least as likely as every token dropped
            assert row[alive].min() >= row[~alive].max()
    assert int(keep_top_k(row, k).isfinite().sum()) == min(k, len(logits))
    for keep in (keep_top_p, keep_typical):
        mass = row.double().softmax(-1)[keep(row, p).isfinite()].sum()
        assert mass >= p - 1e-5


def test_the_whole_chain_equals_transformers():
    rows = torch.randn(6, 300, generator=torch.Generator().manual_seed(3)) * 3
    params = SamplingParams(temperature=0.7, top_k=40, top_p=0.9, min_p=0.02, typical_p=0.9)
    theirs = rows
    for warp in (
        TemperatureLogitsWarper(0.7),
        TopKLogitsWarper(40),
        TopPLogitsWarper(0.9),
        MinPLogitsWarper(0.02),
        TypicalLogitsWarper(0.9),
    ):
        theirs = warp(None, theirs)
    ours = drawn_from(rows, params)
    torch.testing.assert_close(ours, theirs.softmax(-1), atol=1e-6, rtol=0)
    assert int((ours > 0).sum(-1).max()) > 5


def test_temperature_comes_before_truncation():
    params = SamplingParams(temperature=0.5, top_p=0.8)
    kept = drawn_from(torch.tensor([[3.0, 2.0, 1.0]]), params)[0] > 0
    assert kept.tolist() == [True, False, False]  # llama.cpp's order would keep two


def test_ties_go_to_the_lowest_ids():
    row = torch.tensor([1.0, 2.0, 2.0, 2.0])
    assert keep_top_k(row, 2).isfinite().tolist() == [False, True, True, False]
    assert keep_top_p(torch.zeros(4), 0.5).isfinite().tolist() == [True, True, False, False]


@pytest.mark.parametrize("spread", [0.0, 1e-6, 0.1, 3.0])
@pytest.mark.parametrize("mass", [0.5, 0.9, 0.999])
def test_flat_vocabularies_are_narrowed_down_to_what_a_sort_would_keep(spread, mass):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 5000, generator=generator) * spread
    rows[1] = (rows[1] * 2).round()  # many ties
    rows[2, ::3] = -torch.inf
    p = rows.double().softmax(-1)
    typical = -(rows.log_softmax(-1) + torch.special.entr(rows.softmax(-1)).sum(-1, keepdim=True))
    for keep, key in ((keep_top_p, rows), (keep_typical, -typical.abs())):
        order = key.argsort(dim=-1, descending=True, stable=True)
        total = p.gather(-1, order).cumsum(-1)
        kept = keep(rows, mass).isfinite().gather(-1, order)
        count = kept.sum(-1)
        assert torch.equal(kept, torch.arange(5000) < count[:, None])  # a prefix of the ranking
        for row, n in enumerate(count.tolist()):
            assert float(total[row, n - 1]) > mass - 1e-5
            assert n == 1 or float(total[row, n - 2]) < mass + 1e-5


@pytest.mark.parametrize(
    ("keep", "values"),
    [
        (keep_top_k, [1, 7, 50, 60, 3, 2]),
        (keep_top_p, [0.1, 0.7, 0.95, 0.5, 0.99, 0.3]),
        (keep_min_p, [0.1, 0.7, 0.95, 0.5, 0.01, 0.3]),
        (keep_typical, [0.1, 0.7, 0.95, 0.5, 0.99, 0.3]),
    ],
)
def test_rows_are_filtered_each_on_its_own_and_by_its_own_value(keep, values):
    rows = torch.randn(6, 50, generator=torch.Generator().manual_seed(1)) * 3
    column = torch.tensor(values, dtype=torch.long if keep is keep_top_k else torch.float64)
    together = keep(rows, column[:, None])
    apart = [keep(row, value) for row, value in zip(rows, values, strict=True)]
    assert torch.equal(together, torch.stack(apart))
    assert torch.equal(keep(rows, values[1]), torch.stack([keep(row, values[1]) for row in rows]))


@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 100.0])
def test_extreme_temperatures_stay_finite(temperature):
    row = torch.tensor([[1e30, -1e30, 0.0]])
    (probabilities,) = drawn_from(row, SamplingParams(temperature=temperature))
    assert probabilities.tolist() == [1.0, 0.0, 0.0]


def test_logprobs_are_of_the_untempered_distribution():
    logits = torch.randn(4, 30)
    ids = torch.tensor([3, 0, 29, 7])
    expected = logits.log_softmax(-1)
    torch.testing.assert_close(logprob_of(logits, ids), expected[torch.arange(4), ids])
    for row, top in enumerate(top_alternatives(logits, 5)):
        values, places = expected[row].topk(5)
        assert [token for token, _ in top] == places.tolist()
        assert [value for _, value in top] == pytest.approx(values.tolist())


def test_logits_of_any_size_are_weighed():
    row = torch.tensor([200.0, 199.0, -500.0])
    assert keep_top_p(row, 0.5).isfinite().tolist() == [True, False, False]
    assert keep_typical(row, 0.9).isfinite().tolist() == [True, True, False]
