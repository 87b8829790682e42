"""Settings of a search learned on judged queries, judged on queries they never saw.

    python benchmarks/reranking.py [--data DIR] [--eval-data DIR] [--embedder SOURCE]... [--check]

Learned, for each data set by itself: the size of chunks, the embedder (of those named), the fusion
of the retrievers' rankings, and how large a share of its score a hit takes from its neighbours
(``retrieval.rerank.neighbours``). The best of many points on few queries is mostly lucky, so each
setting is chosen by its mean over all values of the others: for each index the share that is best
over all fusions, then the index that is best with its share, then the fusion that is best there
over all shares.

With ``--eval-data``, a folder of the same form, all queries of ``--data`` are learned from and all
of ``--eval-data`` judged. Without it the queries of ``--data`` are dealt to four folds by a seeded
hash (XQuAD by article, Cranfield by query), and each is judged by what the others taught.

XQuAD and Cranfield as in ``retrieval.py`` beside this file. The gain over the index with nothing
set comes with its paired 95% bootstrap interval. ``--check`` exits with 1 if a claim falls
short.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from llmwright.core import Chunk, Hit, progress
from llmwright.embeddings import load_embedder
from llmwright.retrieval import Index
from llmwright.retrieval.ranking.fusion import DEFAULT_FUSION, Fusion
from llmwright.retrieval.rerank.neighbours import similarities, smoothed
from llmwright.retrieval.rerank.reranking import reordered
from llmwright.statistics import paired_bootstrap
from retrieval import EMBEDDER, Task, cranfield, xquad

CLAIMS = {"XQuAD en": 0.96, "XQuAD ru": 0.93, "Cranfield": 0.46}
SIZES = (220, 800)  # approximate tokens of a chunk; the second keeps an abstract whole
SMOOTHINGS = ((0.0, 3), (0.2, 3), (0.4, 3), (0.5, 3), (0.6, 3), (0.5, 5))  # share, neighbours
DEPTH = 200
FOLDS = 4


@dataclass(frozen=True)
class Choice:
    """One point of the grid."""

    size: int
    embedder: str
    fusion: Fusion
    share: float = 0.0
    neighbours: int = 3

    def __str__(self) -> str:
        f = self.fusion
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in f.weights.items())
        how = f"{f.normalisation}: {weights}" if f.method == "weighted" else "reciprocal ranks"
        smooth = f"; {self.share} of {self.neighbours} neighbours" if self.share else ""
        return f"{self.size} tokens, {Path(self.embedder).name}; {how}{smooth}"


def fusions() -> list[Fusion]:
    found = [DEFAULT_FUSION]
    for dense in (0.5, 0.6):
        for feedback in (0.0, 0.5, 1.0):
            weights = {"lexical": 1 - dense, "dense": dense}
            weights |= {f"{name} feedback": feedback * w for name, w in weights.items()}
            found.append(Fusion("weighted", weights=weights, normalisation="zscore"))
    return found


def value(task: Task, ids: Sequence[str], wanted: set[str]) -> float:
    """The task's metric for one query."""
    if task.metric == "R@1":
        return float(bool(ids) and ids[0] in wanted)
    gain = sum(1 / math.log2(rank + 1) for rank, i in enumerate(ids[:10], 1) if i in wanted)
    return gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(10, len(wanted)) + 1))


class Searches:
    """The indexes of one task's documents, and what every choice gives on its queries."""

    def __init__(self, task: Task, embedders: Sequence[str], folder: Path) -> None:
        self.task = task
        self.rows = [i for i, wanted in enumerate(task.relevant) if wanted]
        self.rankings, self.chunks = {}, {}
        for number, source in enumerate(embedders):
            embedder = load_embedder(source)
            for size in SIZES:
                path = folder / f"{number}-{size}"
                index = Index.create(path, embedder, chunk_size=size, chunk_overlap=0)
                index.upsert(task.documents)
                self.chunks[size, source] = {chunk.id: chunk for chunk in index.chunks()}
                self.rankings[size, source] = index.rankings(task.queries, DEPTH)
        self._known: dict[str, NDArray[np.float64]] = {}
        self._likeness: dict[str, NDArray[np.float64]] = {}

    def values(self, choice: Choice) -> NDArray[np.float64]:  # [queries]
        """The metric of each query that has an answer."""
        key = f"{choice.embedder} {choice}"
        if key not in self._known:
            chunks = self.chunks[choice.size, choice.embedder]
            self._known[key] = np.array(
                [
                    value(self.task, self._documents(choice, chunks, i), self.task.relevant[i])
                    for i in self.rows
                ]
            )
        return self._known[key]

    def _documents(self, choice: Choice, chunks: dict[str, Chunk], row: int) -> list[str]:
        fused = choice.fusion(self.rankings[choice.size, choice.embedder][row])
        hits = [Hit(chunks[identity], score) for identity, score in fused[:DEPTH]]
        if choice.share:
            # What reranked(search, neighbour_reranker(...)) does, with likeness counted once.
            key = f"{replace(choice, share=0.0, neighbours=3)} {row}"
            if key not in self._likeness:
                self._likeness[key] = similarities(hits)
            own = np.array([hit.score for hit in hits])
            scores = smoothed(own, self._likeness[key], choice.share, choice.neighbours)
            hits = reordered(hits, scores.tolist())
        return list(dict.fromkeys(hit.chunk.document_id for hit in hits))


def learn(searches: Searches, embedders: Sequence[str], among: NDArray[np.bool_]) -> Choice:
    """What to use, from the queries ``among``; of equally good settings the first."""
    best: list[tuple[float, Choice]] = []
    for size in SIZES:
        for source in embedders:
            points = [
                [Choice(size, source, fusion, *smoothing) for smoothing in SMOOTHINGS]
                for fusion in fusions()
            ]
            means = np.array(
                [[searches.values(point)[among].mean() for point in row] for row in points]
            ).round(9)  # [fusions, smoothings]
            place = int(np.argmax(means.mean(axis=0)))
            fusion = int(np.argmax(means.mean(axis=1)))
            best.append((float(means[:, place].mean()), points[fusion][place]))
    return max(best, key=lambda item: item[0])[1]


def folds(task: Task, data: Path, seed: int) -> NDArray[np.int64]:  # [queries]
    """The fold of each query: by the hash of its article, or of itself."""
    groups = list(task.queries)
    if task.metric == "R@1":
        text = (data / "xquad" / f"xquad.{task.language}.json").read_text("utf-8")
        groups = [
            str(number)
            for number, article in enumerate(json.loads(text)["data"])
            for paragraph in article["paragraphs"]
            for _ in paragraph["qas"]
        ]
    digests = [hashlib.sha256(f"{seed}:{group}".encode()).digest()[0] for group in groups]
    return np.array(digests) % FOLDS


def tasks_of(folder: Path) -> list[Task]:
    return [
        xquad(folder / "xquad", "en"),
        xquad(folder / "xquad", "ru"),
        cranfield(folder / "cranfield"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--eval-data", type=Path, help="judge on the queries of this folder")
    parser.add_argument("--embedder", action="append", help="to choose among; may be given again")
    parser.add_argument("--task", action="append", choices=list(CLAIMS), help="only this one")
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a claim falls short")
    arguments = parser.parse_args()
    for folder in (arguments.data, arguments.eval_data):
        if folder and not folder.is_dir():
            print(f"{folder}: no such folder; name the data with --data DIR.", file=sys.stderr)
            return 2
    embedders = arguments.embedder or [EMBEDDER]
    judging = tasks_of(arguments.eval_data) if arguments.eval_data else [None] * 3
    table = Table("", "unseen", "nothing set", "learned", "gain (95% interval)")
    figures, chosen = {}, []
    with (
        tempfile.TemporaryDirectory() as place,
        progress("tasks", total=3, unit="tasks") as advance,
    ):
        for number, (task, other) in enumerate(zip(tasks_of(arguments.data), judging, strict=True)):
            if arguments.task and task.name not in arguments.task:
                continue
            mine = Searches(task, embedders, Path(place) / f"{number}-tune")
            default = Choice(SIZES[0], embedders[0], DEFAULT_FUSION)
            if other is None:
                fold = folds(task, arguments.data, arguments.seed)[mine.rows]
                learned = np.empty(len(fold))
                for part in range(FOLDS):
                    choice = learn(mine, embedders, fold != part)
                    learned[fold == part] = mine.values(choice)[fold == part]
                    chosen.append(f"{task.name}, fold {part}: {choice}")
                before = mine.values(default)
            else:
                choice = learn(mine, embedders, np.ones(len(mine.rows), np.bool_))
                theirs = Searches(other, embedders, Path(place) / f"{number}-eval")
                learned, before = theirs.values(choice), theirs.values(default)
                chosen.append(f"{task.name}: {choice}")
            gain = paired_bootstrap(before.tolist(), learned.tolist())
            figures[task.name] = float(learned.mean())
            table.add_row(
                f"{task.name} {task.metric}",
                f"{len(learned)}",
                f"{before.mean():.4f}",
                f"{learned.mean():.4f}",
                f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})",
            )
            advance(1)
    Console(width=100).print(table)
    print("\n".join(chosen))
    held = all(figure >= CLAIMS[name] for name, figure in figures.items())
    said = ", ".join(f"{name} {f:.4f} (claim {CLAIMS[name]:.2f})" for name, f in figures.items())
    print(f"{'claims hold' if held else 'CLAIM NOT MET'}: {said}")
    return 0 if held or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
