"""Ragged attention equals the textbook formula on each sequence alone, however it was fed."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.inference.ragged import RaggedAttention, SequenceCache

LAYERS, HEADS, KV_HEADS, DIM = 2, 6, 2, 8


def textbook(q, k, v):
    """Causal grouped-query attention over a whole sequence: q [heads, time, dim]."""
    k = k.repeat_interleave(HEADS // KV_HEADS, 0)
    v = v.repeat_interleave(HEADS // KV_HEADS, 0)
    scores = q @ k.transpose(1, 2) / math.sqrt(DIM)
    future = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1) @ v


# Chunks of each of up to four sequences: a step feeds every sequence that has a chunk left.
PLANS = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=5), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(PLANS, st.integers(0, 2**31))
def test_any_feeding_equals_the_whole(plans, seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(heads, time):
        return torch.randn(LAYERS, heads, time, DIM, generator=generator)

    totals = [sum(plan) for plan in plans]
    q, k, v = ([draw(n, t) for t in totals] for n in (HEADS, KV_HEADS, KV_HEADS))
    caches = [SequenceCache(LAYERS, limit=200) for _ in plans]
    outs = [[[] for _ in range(LAYERS)] for _ in plans]
    for step in range(max(map(len, plans))):
        live = [i for i, plan in enumerate(plans) if step < len(plan)]
        spans = [(caches[i].length, caches[i].length + plans[i][step]) for i in live]
        attention = RaggedAttention([caches[i] for i in live], [e - b for b, e in spans])
        assert attention.positions[0].tolist() == [p for b, e in spans for p in range(b, e)]
        for layer in range(LAYERS):
            rows = [
                torch.cat([x[i][layer][:, b:e] for i, (b, e) in zip(live, spans, strict=True)], 1)[
                    None
                ]
                for x in (q, k, v)
            ]
            parts = attention(layer, *rows)[0].split([e - b for b, e in spans], 1)
            for i, part in zip(live, parts, strict=True):
                outs[i][layer].append(part)
        attention.commit()
    for i, total in enumerate(totals):
        assert caches[i].length == total
        for layer in range(LAYERS):
            expected = textbook(q[i][layer], k[i][layer], v[i][layer])
            torch.testing.assert_close(torch.cat(outs[i][layer], 1), expected)


def test_a_pass_that_broke_off_leaves_the_cache_as_it_was():
    cache = SequenceCache(LAYERS, limit=100)
    q, k, v = torch.randn(1, HEADS, 5, DIM), *torch.randn(2, 1, KV_HEADS, 5, DIM)
    RaggedAttention([cache], [5])(0, q, k, v)  # layer 1 never came, no commit
    assert cache.length == 0
    again = RaggedAttention([cache], [5])(0, q, k, v)
    torch.testing.assert_close(again[0], textbook(q[0], k[0], v[0]))


def test_the_cache_stays_within_its_limit():
    cache = SequenceCache(1, limit=150)
    for _ in range(150):
        RaggedAttention([cache], [1])(
            0, torch.randn(1, HEADS, 1, DIM), *torch.randn(2, 1, KV_HEADS, 1, DIM)
        )
        cache.length += 1
    assert cache._store.shape[3] == 150
