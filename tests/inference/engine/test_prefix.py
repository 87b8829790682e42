"""What is found in the prefix cache is what would have been computed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from llmwright.core import SamplingParams
from llmwright.inference import Engine
from llmwright.modeling import DynamicScaling, extend_context


async def collect(engine, prompt, tokens, **options):
    params = SamplingParams(max_tokens=tokens, ignore_eos=True)
    async with aclosing(engine.stream_tokens(prompt, params, **options)) as stream:
        return [(token.id, token.logprob) async for token in stream]


def prompts(count, shared=50):
    beginning = [3 + (place * 7) % 390 for place in range(shared)]
    return [[*beginning, 5 + number, 9, 11 + number] for number in range(count)]


@pytest.mark.parametrize("kind", ["auto", "torch"])
def test_a_shared_beginning_is_computed_once_and_changes_nothing(tiny, kind):
    with Engine(tiny, runner=kind, cache_tokens=512) as engine:
        given = [asyncio.run(collect(engine, prompt, 6)) for prompt in prompts(8)]
        stats = engine.stats()
    assert stats.cached_tokens == 7 * 48  # three whole blocks for each but the first
    with Engine(tiny, runner=kind, cache_tokens=512, prefix_caching=False) as engine:
        alone = [asyncio.run(collect(engine, prompt, 6)) for prompt in prompts(8)]
        assert engine.stats().cached_tokens == 0
    assert [[token for token, _ in answer] for answer in given] == [
        [token for token, _ in answer] for answer in alone
    ]


def test_keys_turned_for_another_length_are_not_shared(tiny):
    """Under dynamic NTK a key depends on the length that its sequence is planned to reach."""
    long = extend_context(tiny, DynamicScaling(4.0, 32), 256)
    (prompt,) = prompts(1)
    with Engine(long, cache_tokens=1024) as engine:
        asyncio.run(collect(engine, prompt, 4))
        given = asyncio.run(collect(engine, prompt, 40))
        assert engine.stats().cached_tokens == 0
        asyncio.run(collect(engine, prompt, 40))
        assert engine.stats().cached_tokens == 48
    with Engine(long, cache_tokens=1024) as engine:
        assert asyncio.run(collect(engine, prompt, 40)) == given
