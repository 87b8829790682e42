"""Requests wait, are read in pieces, are abandoned or fail; the engine lives until it is closed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from engine_asks import Endless, collect, prompt_of, without_eos

from llmwright.core import CapacityError, InputError, SamplingParams
from llmwright.inference.engine import Engine
from llmwright.inference.runners import TorchRunner


class _Gate:
    """A runner that waits at each pass until it is let through."""

    def __init__(self, runner):
        self.runner = runner
        self.blocks, self.block_size = runner.blocks, runner.block_size
        self.copy_blocks = runner.copy_blocks
        self.passes = threading.Semaphore(0)
        self.arrived = threading.Semaphore(0)
        self.open = False
        self.widths = []

    def forward(self, step):
        self.widths.append(len(step.token_ids))
        self.arrived.release()
        if not self.open:
            assert self.passes.acquire(timeout=60)
        return self.runner.forward(step)

    async def arrival(self):
        """Until the next pass has begun."""
        assert await asyncio.to_thread(self.arrived.acquire, timeout=60)

    async def let_through(self, passes):
        """That many passes, until the one after them has begun."""
        for _ in range(passes):
            self.passes.release()
            await self.arrival()

    def let_everything_through(self):
        self.open = True
        self.passes.release(1000)


async def ask(*asked):
    """Tasks that have handed in their requests: they do so in their first turn of the loop."""
    tasks = [asyncio.create_task(one) for one in asked]
    await asyncio.sleep(0)
    return tasks


def gated(tiny, blocks=400, **options):
    gate = _Gate(TorchRunner(tiny.decoder, blocks))
    return gate, Engine(without_eos(tiny), runner=gate, **options)


def test_a_long_prompt_is_read_in_chunks_between_which_others_answer(tiny):
    async def run():
        short = await ask(collect(running, prompt_of(1, 4), SamplingParams(max_tokens=9)))
        await gate.arrival()
        long = await ask(collect(running, prompt_of(2, 50), SamplingParams(max_tokens=1)))
        gate.let_everything_through()
        await asyncio.gather(*short, *long)

    gate, running = gated(tiny, max_sequences=8, token_budget=16)
    with running:
        asyncio.run(run())
    # 4 prompt tokens; then each pass 1 token of the short and 15 of the long one.
    assert gate.widths == [4, 16, 16, 16, 6, 1, 1, 1, 1]


def test_prompts_share_the_chunk_in_the_order_they_came(tiny):
    async def run():
        first = await ask(collect(running, prompt_of(1, 4), SamplingParams(max_tokens=9)))
        await gate.arrival()
        others = await ask(
            *(collect(running, prompt_of(n, 20), SamplingParams(max_tokens=1)) for n in (2, 3))
        )
        gate.let_everything_through()
        await asyncio.gather(*first, *others)

    gate, running = gated(tiny, max_sequences=8, token_budget=16)
    with running:
        asyncio.run(run())
    # One token of the first beside 15 of the second, then 5 of it and 10 of the third, then 10.
    assert gate.widths == [4, 16, 16, 11, 1, 1, 1, 1, 1]


def test_blocks_are_freed_with_the_request(tiny):
    """Answered, abandoned, cancelled or broken: no block outlives its request."""

    async def run():
        finished = running.stream_tokens(prompt_of(1), SamplingParams(max_tokens=3))
        for _ in range(3):
            await anext(finished)
        abandoned = running.stream_tokens(prompt_of(2), SamplingParams(max_tokens=2000))
        await anext(abandoned)
        stats = running.stats()
        assert stats.blocks_free < stats.blocks
        await abandoned.aclose()
        await asyncio.gather(
            *(collect(running, prompt_of(n), SamplingParams(max_tokens=3)) for n in range(20))
        )
        await finished.aclose()

    with Engine(without_eos(tiny)) as running:
        asyncio.run(run())
        stats = running.stats()
        assert (stats.running, stats.waiting, stats.cancelled) == (0, 0, 1)
        assert stats.blocks_free == stats.blocks


def test_closing_the_iterator_frees_the_request_at_the_next_step(tiny):
    async def run():
        stays = asyncio.create_task(collect(running, prompt_of(1), SamplingParams(max_tokens=30)))
        leaves = running.stream_tokens(prompt_of(2), SamplingParams(max_tokens=1000))
        await anext(leaves)
        await leaves.aclose()
        assert len(await stays) == 30

    with Engine(without_eos(tiny)) as running:
        asyncio.run(run())
        assert running.stats().running == 0
        assert running.stats().generated_tokens < 100


def test_cancelling_the_task_frees_the_request_running_or_waiting(tiny):
    async def run():
        tasks = await ask(
            *(collect(running, prompt_of(n), SamplingParams(max_tokens=1000)) for n in range(3))
        )
        await gate.arrival()
        await gate.let_through(2)
        assert (running.stats().running, running.stats().waiting) == (2, 1)
        tasks[2].cancel()  # waits
        await asyncio.wait([tasks[2]])
        await gate.let_through(1)
        assert running.stats().waiting == 0
        tasks[0].cancel()  # runs
        await asyncio.wait([tasks[0]])
        await gate.let_through(1)
        assert gate.widths[-1] == 1  # only the second is left
        tasks[1].cancel()
        gate.let_everything_through()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)

    gate, running = gated(tiny, max_sequences=2)
    with running:
        asyncio.run(run())
        running._call(lambda: None)  # after it, what was asked for before has been done
        assert running.stats().running == 0
        assert running.stats().blocks_free == running.stats().blocks


def test_the_queue_is_bounded(tiny):
    async def run():
        tasks = []
        for number in range(3):
            tasks += await ask(collect(running, prompt_of(number), SamplingParams(max_tokens=2)))
            if number == 0:
                await gate.arrival()
            assert running.stats().waiting == number
        with pytest.raises(CapacityError, match="2 requests wait already"):
            await collect(running, prompt_of(9), None)
        gate.let_everything_through()
        assert [len(tokens) for tokens in await asyncio.gather(*tasks)] == [2, 2, 2]

    gate, running = gated(tiny, max_sequences=1, max_waiting=2)
    with running:
        asyncio.run(run())


class _Breaks(_Gate):
    """A runner that fails at chosen passes."""

    def __init__(self, runner, when):
        super().__init__(runner)
        self.open, self.when = True, when

    def forward(self, step):
        output = super().forward(step)
        if len(self.widths) in self.when:
            raise MemoryError("no room for the pass")
        return output


def test_an_error_reaches_everyone_in_the_pass_and_the_engine_lives_on(tiny):
    async def run():
        asked = [collect(running, prompt_of(n), SamplingParams(max_tokens=20)) for n in range(3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    breaks = _Breaks(TorchRunner(tiny.decoder, 400), {6})
    with Engine(without_eos(tiny), runner=breaks) as running:
        first = asyncio.run(run())
        assert any(isinstance(outcome, RuntimeError) for outcome in first)
        for outcome in first:
            if isinstance(outcome, RuntimeError):
                assert "no room for the pass" in str(outcome)
        assert [len(tokens) for tokens in asyncio.run(run())] == [20, 20, 20]


def test_a_token_without_text_ends_only_its_own_request(tiny):
    class Nameless(Endless):
        def __init__(self, tokenizer):
            super().__init__(tokenizer)
            self.first = True
            decoder = tokenizer.stream_decoder

            def stream_decoder():
                made = decoder()
                if self.first:
                    self.first = False
                    made.push = self.fail
                return made

            self.stream_decoder = stream_decoder

        def fail(self, token_id):
            raise InputError(f"there is no token {token_id}")

    async def run():
        asked = [collect(running, prompt_of(n), SamplingParams(max_tokens=5)) for n in range(3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    with Engine(replace(tiny, tokenizer=Nameless(tiny.tokenizer))) as running:
        outcomes = asyncio.run(run())
    assert [isinstance(outcome, InputError) for outcome in outcomes] == [True, False, False]


def test_closing_ends_what_runs_and_what_waits(tiny):
    async def run():
        first = running.stream_tokens(prompt_of(0), SamplingParams(max_tokens=900))
        await anext(first)
        asked = (collect(running, prompt_of(n), SamplingParams(max_tokens=900)) for n in (1, 2))
        waiting = await ask(*asked)
        await asyncio.to_thread(running.close)
        with pytest.raises(RuntimeError, match="the engine was closed"):
            async for _ in first:
                pass
        return await asyncio.gather(*waiting, return_exceptions=True)

    running = Engine(without_eos(tiny), max_sequences=1)
    for outcome in asyncio.run(run()):
        assert isinstance(outcome, RuntimeError)
        assert "closed" in str(outcome)
    running.close()  # twice is harmless
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(collect(running, prompt_of(1), None))


def test_an_event_loop_that_ended_does_not_stop_the_others(tiny):
    async def abandon():
        asyncio.get_running_loop().stream = running.stream_tokens(prompt_of(1), SamplingParams(500))
        await anext(asyncio.get_running_loop().stream)

    with Engine(without_eos(tiny)) as running:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(abandon())
        loop.close()  # without closing the stream
        assert len(asyncio.run(collect(running, prompt_of(2), SamplingParams(max_tokens=30)))) == 30


def test_a_program_may_end_while_the_engine_works(tiny_model_path):
    program = f"""
import asyncio
from llmwright.core import SamplingParams
from llmwright.inference import Engine
from llmwright.modeling import load_model

async def main():
    global stream
    stream = engine.stream_tokens([5, 6, 7], SamplingParams(max_tokens=4000, temperature=1.0))
    await anext(stream)

engine = Engine(load_model({str(tiny_model_path)!r}, "float32"))
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
print("end of program")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "end of program\n"
    assert done.returncode == 0, done.stderr
