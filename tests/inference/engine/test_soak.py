"""A thousand requests of every kind through a cache that is far too small: each answer is the one
the request gets alone, and in the end every block is free."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
import torch

from llmwright.core import SamplingParams
from llmwright.inference.decoding import SamplingState, search_for
from llmwright.inference.engine import EngineCore, Request, SoftPrompt
from llmwright.inference.engine.speculate import Speculator
from llmwright.inference.native import NativeRunner, native_available
from llmwright.inference.runners import TorchRunner
from llmwright.inference.speculation import NGramProposer
from llmwright.modeling import Adapter

REQUESTS = 1000
BLOCKS, BLOCK_SIZE = 18, 16


@dataclass
class Wish:
    prompt: list[int]
    params: SamplingParams
    adapter: str | None
    soft_prompt: SoftPrompt | None
    priority: int
    tenant: int
    arrives: int  # at which step
    leaves: int | None  # after how many tokens it is cancelled


def adapters(decoder):
    made = {}
    for number, rank in enumerate((2, 3)):
        generator = torch.Generator().manual_seed(number)
        factors = {}
        for name, module in decoder.named_modules():
            if (
                isinstance(module, torch.nn.Linear)
                and "layers" in name
                and number < 1 + ("q_" in name)
            ):
                a = torch.randn(rank, module.in_features, generator=generator) * 0.3
                b = torch.randn(module.out_features, rank, generator=generator) * 0.3
                factors[name] = (a, b)
        made[f"adapter {number}"] = Adapter(factors, "random")
    return made


def params_of(rng, number):
    kind = rng.randrange(12)
    common = {"max_tokens": rng.choice([1, 4, 9, 14, 30, 40, 40]), "ignore_eos": rng.random() < 0.5}
    if kind < 4:
        return SamplingParams(**common)
    if kind < 8:
        return SamplingParams(
            temperature=rng.choice([0.7, 1.0, 1.5]),
            top_k=rng.choice([0, 5, 40]),
            top_p=rng.choice([1.0, 0.8]),
            min_p=rng.choice([0.0, 0.05]),
            typical_p=rng.choice([1.0, 0.9]),
            repetition_penalty=rng.choice([1.0, 1.3]),
            presence_penalty=rng.choice([0.0, 0.5]),
            logprobs=rng.choice([None, 2]),
            seed=number,
            **common,
        )
    if kind == 8:
        return SamplingParams(temperature=1.0, n=rng.randint(2, 3), seed=number, **common)
    if kind == 9:
        return SamplingParams(
            temperature=1.0, best_of=3, n=rng.randint(1, 2), seed=number, **common
        )
    if kind == 10:
        return SamplingParams(num_beams=3, n=rng.randint(1, 2), **common)
    return SamplingParams(penalty_alpha=0.5, top_k=3, **common)


def wishes(hidden):
    rng = random.Random(7)
    generator = torch.Generator().manual_seed(7)
    soft = [
        SoftPrompt(f"soft {i}", torch.randn(3 + i, hidden, generator=generator)) for i in (0, 1)
    ]
    beginnings = [[rng.randrange(3, 390) for _ in range(36)] for _ in range(4)]
    made = []
    for number in range(REQUESTS):
        prompt = [rng.randrange(3, 390) for _ in range(rng.randint(1, 20))]
        if rng.random() < 0.6:
            prompt = rng.choice(beginnings)[: rng.randint(10, 36)] + prompt[:6]
        made.append(
            Wish(
                prompt,
                params_of(rng, number),
                rng.choice([None, None, "adapter 0", "adapter 1"]),
                rng.choice([None, None, None, *soft]),
                rng.choice([0, 0, 0, 1]),
                rng.randrange(3),
                number // 3 + rng.randrange(20),
                rng.choice([None] * 6 + [0, 1, 3]),
            )
        )
    return made


def request_of(model, wish):
    length = len(wish.prompt) + len(wish.soft_prompt or ())
    state = SamplingState(wish.params, wish.prompt, model.tokenizer)
    return Request(
        wish.prompt,
        wish.params,
        limit=length + wish.params.max_tokens,
        adapter=wish.adapter,
        soft_prompt=wish.soft_prompt,
        priority=wish.priority,
        tenant=wish.tenant,
        search=search_for(state, wish.params.max_tokens),
    )


def run(core, model, wished):
    """Everything that each request was sent, and how it ended."""
    requests = [request_of(model, wish) for wish in wished]
    number_of = {request: number for number, request in enumerate(requests)}
    coming = sorted(range(len(wished)), key=lambda number: wished[number].arrives)
    answers = [[] for _ in wished]
    step = 0
    while coming or core.busy:
        while coming and wished[coming[0]].arrives <= step:
            number = coming.pop(0)
            core.check(requests[number])
            core.add(requests[number])
            if wished[number].leaves == 0:
                core.cancel(requests[number])
        for request, token in core.step():
            assert not isinstance(token, Exception), token
            number = number_of[request]
            answers[number].append((token.answer, token.id, token.text, token.finish_reason))
            if wished[number].leaves is not None and len(answers[number]) >= wished[number].leaves:
                core.cancel(request)
        step += 1
        assert step < 100_000, "the engine does not come to an end"
    return answers


@pytest.mark.parametrize("kind", ["native", "torch"])
@pytest.mark.parametrize("drafts", [False, True], ids=["plain", "with drafts"])
def test_every_answer_is_the_one_given_alone(tiny, kind, drafts):
    """With drafts the answers are compared with those without."""
    if kind == "native" and (reason := native_available().reason):
        pytest.skip(f"the compiled kernels cannot be used: {reason}")

    def engine(blocks, drafts=False):
        runner = (NativeRunner if kind == "native" else TorchRunner)(
            tiny.decoder, blocks, BLOCK_SIZE
        )
        for name, adapter in made.items():
            runner.add_adapter(name, adapter)
        speculator = Speculator(NGramProposer()) if drafts else None
        return EngineCore(tiny, runner, max_sequences=12, token_budget=24, speculator=speculator)

    made = adapters(tiny.decoder)
    wished = wishes(tiny.config.hidden_size)[: REQUESTS if kind == "native" else REQUESTS // 5]
    small = engine(BLOCKS, drafts)
    answers = run(small, tiny, wished)
    stats = small.stats()
    assert small.manager.free == BLOCKS, "a block leaked"
    assert stats.preemptions > len(wished) // 100
    assert stats.cached_tokens > len(wished) // 4
    assert stats.cancelled > len(wished) // 10
    alone = engine(100)
    for number, wish in enumerate(wished):
        if wish.leaves == 0:
            continue
        expected = run(alone, tiny, [wish])[0]
        given = answers[number]
        if wish.leaves is not None:  # answers side by side: each is a beginning of its own
            for answer in range(wish.params.n):
                mine = [token for token in given if token[0] == answer]
                whole = [token for token in expected if token[0] == answer]
                assert mine == whole[: len(mine)]
        else:
            assert sorted(given, key=lambda token: token[0]) == sorted(
                expected, key=lambda token: token[0]
            ), (number, wish)
