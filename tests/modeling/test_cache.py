"""The cache changes what is computed, never what comes out."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import SHAPES, TINY

from llmwright.modeling import KVCache, random_decoder

IDS = torch.randint(0, 97, (2, 40), generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_every_shape_prefill_then_one_by_one(decoder) -> None:
    cache = KVCache(decoder.config, decoder.dtype, batch=2, capacity=4)
    parts = [decoder(IDS[:, :9], cache.positions(9), cache)]
    parts += [decoder(IDS[:, i : i + 1], cache.positions(1), cache) for i in range(9, 14)]
    torch.testing.assert_close(torch.cat(parts, 1), decoder(IDS[:, :14]), atol=1e-4, rtol=1e-4)
    assert cache.length == 14


DECODERS = {name: random_decoder(shape, seed=7, std=0.3) for name, shape in SHAPES.items()}
FULL = {}


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(DECODERS)), st.lists(st.integers(1, 15), min_size=1, max_size=12))
@torch.inference_mode()
def test_any_way_to_cut_a_text_gives_the_same_logits(name: str, chunks: list[int]) -> None:
    decoder = DECODERS[name]
    full = FULL.setdefault(name, decoder(IDS))
    cache = KVCache(decoder.config, decoder.dtype, batch=2, capacity=1)
    for chunk in chunks:
        start = cache.length
        part = IDS[:, start : start + chunk]
        if part.shape[1] == 0:
            break
        logits = decoder(part, cache.positions(part.shape[1]), cache)
        torch.testing.assert_close(
            logits, full[:, start : start + part.shape[1]], atol=1e-4, rtol=1e-4
        )
    assert cache.capacity < 2 * max(cache.length, 1) + 1


@torch.inference_mode()
def test_what_was_forgotten_leaves_no_trace() -> None:
    decoder = random_decoder(TINY, seed=8, std=0.3)
    cache = KVCache(TINY, torch.float32, batch=2)
    decoder(IDS[:, :30], cache.positions(30), cache)
    cache.truncate(10)
    again = decoder(IDS[:, 10:15], cache.positions(5), cache)
    torch.testing.assert_close(again, decoder(IDS[:, :15])[:, 10:], atol=1e-4, rtol=1e-4)
