"""What a request may ask for beside its sampling, and what it is refused."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import aclosing
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from llmwright.core import CapacityError, InputError, SamplingParams
from llmwright.inference import Engine, SoftPrompt
from llmwright.inference.runners import TorchRunner

GREEDY = SamplingParams(max_tokens=6, ignore_eos=True)
PROMPT = [3, 9, 27, 81, 243]


async def collect(engine, prompt=PROMPT, params=GREEDY, **options):
    async with aclosing(engine.stream_tokens(prompt, params, **options)) as tokens:
        return [token async for token in tokens]


def ask(engine, prompt=PROMPT, params=GREEDY, **options):
    """(token, log-probability) of each token of an answer."""
    tokens = asyncio.run(collect(engine, prompt, params, **options))
    return [(token.id, token.logprob) for token in tokens]


def near(one, other):
    return [t for t, _ in one] == [t for t, _ in other] and [p for _, p in one] == pytest.approx(
        [p for _, p in other], abs=1e-4
    )


class Stops:
    """A runner that computes no pass before it is let go on."""

    def __init__(self, runner):
        self.runner = runner
        self.blocks, self.block_size = runner.blocks, runner.block_size
        self.copy_blocks = runner.copy_blocks
        self.go_on = threading.Event()
        self.prompts = []

    def forward(self, step):
        assert self.go_on.wait(60)
        self.prompts += step.token_ids[step.starts[:-1]].tolist()
        return self.runner.forward(step)


# -- time, order, room ---------------------------------------------------------------------------


def test_an_answer_that_takes_too_long_is_ended_and_frees_its_blocks(tiny):
    stops = Stops(TorchRunner(tiny.decoder, 50))

    async def run():
        with pytest.raises(CapacityError, match=r"not finished within 0\.02 seconds"):
            await collect(engine, timeout=0.02)
        stops.go_on.set()
        return await collect(engine, timeout=60)  # with time enough, the whole answer

    with Engine(tiny, runner=stops) as engine:
        assert len(asyncio.run(run())) == 6
        stats = engine.stats()
    assert (stats.cancelled, stats.blocks_free) == (1, stats.blocks)


def test_lower_priority_numbers_and_tenants_not_yet_served_go_first(tiny):
    stops = Stops(TorchRunner(tiny.decoder, 50))

    async def run():
        asked = [
            collect(engine, [first, 9], replace(GREEDY, max_tokens=1), priority=p, tenant=tenant)
            for first, p, tenant in ((10, 1, "a"), (11, 1, "a"), (12, 1, "b"), (13, 0, "a"))
        ]
        tasks = [asyncio.create_task(one) for one in asked]
        await asyncio.sleep(0)  # one turn of the loop: all of them have asked
        stops.go_on.set()
        await asyncio.gather(*tasks)

    with Engine(tiny, runner=stops, max_sequences=1) as engine:
        asyncio.run(run())
    assert stops.prompts.index(13) < stops.prompts.index(12) < stops.prompts.index(11)


def test_what_could_never_fit_is_refused_at_once(tiny):
    with Engine(tiny, max_sequences=3, cache_tokens=64) as engine:
        with pytest.raises(
            CapacityError, match="4 answers or beams at once, and the engine runs 3"
        ):
            ask(engine, params=replace(GREEDY, n=4, temperature=1.0))
        assert len(ask(engine, params=replace(GREEDY, n=3, temperature=1.0))) == 18
        with pytest.raises(
            CapacityError, match="1 x 65 tokens need 5 cache blocks of 16, and there are 4"
        ):
            ask(engine, params=replace(GREEDY, max_tokens=60))
        assert len(ask(engine, params=replace(GREEDY, max_tokens=59))) == 59
        with pytest.raises(CapacityError, match="3 x 17 tokens need 6 cache blocks"):
            ask(engine, params=replace(GREEDY, num_beams=3, max_tokens=12))
        with pytest.raises(InputError, match="logit_bias names token 400"):
            ask(engine, params=replace(GREEDY, logit_bias=((400, 1.0),)))


def test_a_runner_of_ones_own_counts_with_its_own_cache(tiny):
    with Engine(tiny, runner=TorchRunner(tiny.decoder, 3), cache_tokens=1 << 42) as engine:
        assert engine.memory is None
        assert engine.stats().blocks == 3
        assert near(ask(engine), ask(engine))


def test_the_figures_of_a_server(tiny):
    with Engine(tiny, runner="torch", speculate="ngram", cache_tokens=640) as engine:
        before = engine.stats()
        assert before.time_to_first_token.p50 is None and before.draft_cost > 0
        assert (before.cache_hit_rate, before.acceptance_rate) == (0.0, 0.0)
        for number in range(3):
            ask(engine, [5] * 40 + [6 + number], replace(GREEDY, max_tokens=30))
        stats = engine.stats()
        with pytest.raises(ZeroDivisionError):
            engine._call(lambda: 1 / 0)  # a task that fails tells who asked, and all goes on
        ask(engine)
    assert (stats.finished, stats.generated_tokens, stats.prompt_tokens) == (3, 90, 123)
    assert stats.cache_hit_rate == 2 * 32 / 123
    assert 0 < stats.time_to_first_token.p50 <= stats.time_to_first_token.p95
    assert 0 < stats.time_between_tokens.p50 <= stats.time_between_tokens.p95
    assert stats.acceptance_rate == stats.accepted_drafts / max(stats.drafted_tokens, 1)


# -- soft prompts --------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["auto", "torch"])
def engine(tiny, request):
    with Engine(tiny, runner=request.param, token_budget=32) as running:
        yield running


def test_vectors_of_tokens_are_those_tokens(tiny, engine):
    vectors = tiny.decoder.model.embed_tokens.weight.detach()[PROMPT[:3]]
    given = ask(engine, PROMPT[3:], soft_prompt=SoftPrompt("beginning", vectors))
    assert near(given, ask(engine, PROMPT))
    many = tiny.decoder.model.embed_tokens.weight.detach()[[7, 8] * 20]  # read in two pieces
    given = ask(engine, [9], soft_prompt=SoftPrompt("many", many))
    assert near(given, ask(engine, [7, 8] * 20 + [9]))
    again = ask(engine, [9], soft_prompt=SoftPrompt("many", many))
    assert near(given, again)
    other = ask(engine, [9], soft_prompt=SoftPrompt("other", torch.randn(40, 32)))
    assert not near(given, other)  # its cache is not that of the tokens, nor of another name


def test_vectors_are_no_tokens_to_penalties(tiny, engine):
    soft = SoftPrompt("zeros", torch.zeros(2, 32))
    params = replace(GREEDY, max_tokens=1, logit_bias=((0, 60.0),), repetition_penalty=100.0)
    assert ask(engine, [9], params, soft_prompt=soft)[0][0] == 0
    assert ask(engine, [0, 9], params)[0][0] != 0


def test_vectors_that_do_not_fit(tiny, engine):
    with pytest.raises(InputError, match=r"'wide' has vectors of 33 numbers.* have 32"):
        ask(engine, soft_prompt=SoftPrompt("wide", torch.zeros(1, 33)))
    with pytest.raises(CapacityError, match=r"the prompt has 4096 tokens"):
        ask(engine, [9] * 4000, soft_prompt=SoftPrompt("long", torch.zeros(96, 32)))


# -- adapters ------------------------------------------------------------------------------------


def save_adapter(folder, decoder, seed):
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(2):
        name = f"model.layers.{layer}.mlp.down_proj"
        out, inputs = decoder.get_submodule(name).weight.shape
        key = f"base_model.model.{name}.lora_"
        tensors[f"{key}A.weight"] = torch.randn(2, inputs, generator=generator)
        tensors[f"{key}B.weight"] = torch.randn(out, 2, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize("kind", ["auto", "torch"])
def test_a_name_given_to_another_adapter_answers_as_that_one(tiny, tmp_path, kind):
    folders = [save_adapter(tmp_path / f"{seed}", tiny.decoder, seed) for seed in (1, 2)]
    prompt = [5 + n for n in range(40)]
    with Engine(tiny, runner=kind) as engine:
        plain = ask(engine, prompt)
        answers = []
        for name, folder in (("a", folders[0]), ("b", folders[1]), ("a", folders[1])):
            engine.add_adapter(name, folder)
            answers.append(ask(engine, prompt, adapter=name))
        assert near(plain, ask(engine, prompt))
        with pytest.raises(InputError, match=r"no adapter 'c'.*use one of: a, b"):
            ask(engine, prompt, adapter="c")
        with pytest.raises(InputError, match=r"no adapter 'c'"):
            engine.remove_adapter("c")
    first, second, renamed = answers
    assert not near(first, plain) and not near(first, second)
    assert near(second, renamed)


def test_removing_an_adapter_ends_what_uses_it_running_or_waiting_and_nothing_else(tiny, tmp_path):
    async def run():
        running = engine.stream_tokens([10, 9], params, adapter="a")
        await anext(running)
        other = asyncio.create_task(collect(engine, [11, 9], params))
        waiting = asyncio.create_task(collect(engine, [12, 9], params, adapter="a"))
        await asyncio.sleep(0)  # one turn of the loop: both have asked
        engine._call(lambda: None)  # and have been let in
        await asyncio.to_thread(engine.remove_adapter, "a")
        for outcome in (collect_rest(running), waiting):
            with pytest.raises(InputError, match="the adapter 'a' was removed"):
                await outcome
        assert len(await other) == 2000

    async def collect_rest(stream):
        return [token async for token in stream]

    params = replace(GREEDY, max_tokens=2000)
    with Engine(tiny, max_sequences=2) as engine:
        engine.add_adapter("a", save_adapter(tmp_path / "a", tiny.decoder, 1))
        asyncio.run(run())
        with pytest.raises(InputError, match=r"no adapter 'a'.*use one of: none"):
            ask(engine, adapter="a")
        assert engine.stats().blocks_free == engine.stats().blocks


# -- several branches ----------------------------------------------------------------------------

BRANCHED = (
    replace(GREEDY, max_tokens=20, num_beams=3, n=2),
    replace(GREEDY, max_tokens=20, penalty_alpha=0.6, top_k=3),
    replace(GREEDY, max_tokens=20, temperature=1.0, n=3, seed=1),
    replace(GREEDY, max_tokens=20, temperature=1.0, best_of=3, n=2, seed=2),
    replace(GREEDY, max_tokens=20, num_beams=4, num_beam_groups=2, diversity_penalty=1.0),
    SamplingParams(max_tokens=20, num_beams=2, regex="[a-z]{2}"),
)


@pytest.mark.parametrize("kind", ["auto", "torch"])
def test_branches_beside_others_are_those_of_a_request_alone(tiny, kind):
    async def everyone():
        asked = (collect(tight, PROMPT * (2 + n), params) for n, params in enumerate(BRANCHED))
        return await asyncio.gather(*asked)

    def shown(tokens):
        return sorted((t.answer, i, t.id, t.text, t.finish_reason) for i, t in enumerate(tokens))

    with Engine(tiny, runner=kind) as roomy:
        alone = [
            asyncio.run(collect(roomy, PROMPT * (2 + n), params))
            for n, params in enumerate(BRANCHED)
        ]
        assert roomy.stats().finished == len(BRANCHED)
    with Engine(tiny, runner=kind, cache_tokens=288, max_sequences=12, token_budget=12) as tight:
        together = asyncio.run(everyone())
        stats = tight.stats()
    for params, mine, expected in zip(BRANCHED, together, alone, strict=True):
        by_answer = [[t for t in mine if t.answer == n] for n in range(params.n)]
        wanted = [[t for t in expected if t.answer == n] for n in range(params.n)]
        assert list(map(shown, by_answer)) == list(map(shown, wanted))
        assert all(answer[-1].finish_reason for answer in wanted)
    assert (stats.finished, stats.running, stats.blocks_free) == (6, 0, stats.blocks)
    written = "".join(token.text for token in together[-1])
    assert len(written) == 2 and together[-1][-1].finish_reason == "stop"
