"""The rule gives the target's distribution: enumerated over every path, and by counting draws."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.inference.speculation.acceptance import (
    draw,
    keep_probability,
    residual,
    verify,
    verify_greedy,
)
from llmwright.inference.speculation.proposer import Draft

VOCAB = 3
STEPS = 3


def tables(seed, zeros=True):
    """A next-token distribution for every history of up to STEPS + 2 tokens, some with zeros."""
    generator = torch.Generator().manual_seed(seed)
    table = {}
    for length in range(STEPS + 3):
        for history in product(range(VOCAB), repeat=length):
            weights = torch.rand(VOCAB, generator=generator, dtype=torch.float64)
            if zeros and int(torch.randint(4, (), generator=generator)) == 0:
                weights[int(torch.randint(VOCAB, (), generator=generator))] = 0.0
            table[history] = weights / weights.sum()
    return table


def rounds(p, q, history, k):
    """Every outcome of one round after ``history``: (tokens, probability)."""
    for drafts in product(range(VOCAB), repeat=k):
        reached = 1.0  # probability that these drafts are made and kept up to here
        for i, x in enumerate(drafts):
            here = history + drafts[:i]
            reached *= float(q[here][x])
            if reached == 0.0:
                break
            keep = float(keep_probability(p[here][x], q[here][x]))
            # What is rejected here has been drafted on to the end: sum those out.
            if all(y == 0 for y in drafts[i + 1 :]):
                for y, share in enumerate(residual(p[here], q[here]).tolist()):
                    yield (*drafts[:i], y), reached * (1.0 - keep) * share
            reached *= keep
        else:
            for y, share in enumerate(p[history + drafts].tolist()):
                yield (*drafts, y), reached * share


def law(p, q, k):
    """The distribution of the first STEPS tokens, over rounds of ``k`` drafts."""
    open_, done = Counter({(): 1.0}), Counter()
    while open_:
        history, mass = open_.popitem()
        wanted = min(k, STEPS + 2 - len(history) - 1)
        for tokens, share in rounds(p, q, history, wanted):
            text = history + tokens
            if len(text) >= STEPS:
                done[text[:STEPS]] += mass * share
            else:
                open_[text] += mass * share
    return done


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 3))
def test_over_all_paths_the_output_has_the_targets_distribution(seed, k):
    p, q = tables(seed), tables(seed + 1)
    seen = law(p, q, k)
    assert sum(seen.values()) == pytest.approx(1.0, abs=1e-12)
    for text in product(range(VOCAB), repeat=STEPS):
        wanted = 1.0
        for i, x in enumerate(text):
            wanted *= float(p[text[:i]][x])
        assert seen[text] == pytest.approx(wanted, abs=1e-12)


def play(p, q, k, generator, certain):
    """STEPS tokens by ``verify`` itself, drafts drawn from q or, if ``certain``, its best token."""
    text = ()
    while len(text) < STEPS:
        drafts, rows = (), []
        for _ in range(min(k, STEPS + 1 - len(text))):
            row = q[text + drafts]
            drafts += (int(row.argmax()) if certain else draw(row, generator),)
            rows.append(row)
        target = torch.stack([p[text + drafts[:i]] for i in range(len(drafts) + 1)])
        tokens, accepted = verify(
            target, Draft(drafts, None if certain else torch.stack(rows)), generator
        )
        assert tokens[:accepted] == list(drafts[:accepted])
        assert len(tokens) == accepted + 1
        text += tuple(tokens)
    return text[:STEPS]


@pytest.mark.parametrize("certain", [False, True])
def test_counted_draws_have_the_targets_distribution(follows, certain):
    p, q = tables(3, zeros=False), tables(4, zeros=False)
    generator = torch.Generator().manual_seed(0)
    n = 6000
    counts = Counter(play(p, q, 2, generator, certain) for _ in range(n))
    wanted = {
        (a, b, c): n * float(p[()][a] * p[(a,)][b] * p[(a, b)][c])
        for a, b, c in product(range(VOCAB), repeat=STEPS)
    }
    assert follows(counts, wanted)


def test_at_temperature_0_only_the_argmax_is_kept():
    # By softmax probabilities token 0 would pass: min(1, .45 / .40) = 1.
    p = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    q = torch.tensor([[1.0, 0.0, 0.0]])
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        assert verify(p, Draft((0,), q), generator) == ([1], 0)
        assert verify(p, Draft((1,), q.roll(1, -1)), generator) == ([1, 0], 1)


@given(
    best=st.lists(st.integers(0, 2), min_size=1, max_size=6), data=st.data(),
    certain=st.booleans(),
)  # fmt: skip
def test_the_greedy_form_is_the_rule_with_one_hot_distributions(best, data, certain):
    k = len(best) - 1
    drafts = tuple(data.draw(st.lists(st.integers(0, 2), min_size=k, max_size=k)))
    eye = torch.eye(3)
    q = None if certain or not k else eye[list(drafts)]
    general = verify(eye[best], Draft(drafts, q), torch.Generator().manual_seed(0))
    assert verify_greedy(best, drafts) == general


@given(seed=st.integers(0, 1000), k=st.integers(0, 5))
def test_certain_drafts_leave_the_draws_of_a_seed_as_they_are(seed, k):
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(k + 1, 4, generator=generator).softmax(-1)
    drafts = tuple(torch.randint(4, (k,), generator=generator).tolist())
    tokens, _ = verify(p, Draft(drafts), torch.Generator().manual_seed(seed))
    plain = torch.Generator().manual_seed(seed)
    assert tokens == [draw(row, plain) for row in p[: len(tokens)]]


def test_what_the_target_excludes_never_comes_out():
    p = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]])
    q = torch.tensor([[0.1, 0.1, 0.8]])
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        tokens, accepted = verify(p, Draft((2,), q), generator)
        assert accepted == 0
        assert tokens[0] != 2


def test_equal_distributions_keep_everything_and_leave_nothing_over():
    p = torch.tensor([[0.2, 0.3, 0.5]])
    assert keep_probability(p[0], p[0]).tolist() == [1.0, 1.0, 1.0]
    assert residual(p[0], p[0]).tolist() == pytest.approx(p[0].tolist())
