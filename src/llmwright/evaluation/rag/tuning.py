"""Choose how to cut, find and rerank, by measurement on the user's own questions.

The questions come in two halves. On the half ``tune`` every trial is judged and the best is chosen;
on the half ``eval``, looked at once, the choice is held against the defaults by a paired bootstrap
interval. A trial is judged by nDCG@10 of the passages that would fit a prompt: hits are taken until
``context`` tokens are full, so that large chunks do not win by being large.

The best of many trials looks better than it is: of a dozen that are all equal, one will seem to
gain two points on 60 questions. So a trial takes the place of the best so far only where the
paired 95% interval of its gain lies above 0; where nothing can be told apart, the defaults stand.
The search is greedy, since parts combine nearly independently: sizes, then strategies at the best
size, then retrievers and the weights of their fusion (learned, and taken only where unseen
questions gain: ``judge_fusions``), further queries, neighbours, and the reranker where one is
given. A trial is begun only if the time it should take is still there; finished ones are kept in
``folder`` and not repeated after a kill.

Cost: an index for each way to cut, dominated by embedding; give a ``CachedEmbedder``, and a text
that two ways have in common is embedded once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from llmwright.core import (
    ConfigurationError,
    Document,
    Embedder,
    Hit,
    Score,
    Search,
    content_hash,
    read_json,
    write_json,
)
from llmwright.data import Question
from llmwright.evaluation.retrieval import evaluate_retrieval, finds
from llmwright.retrieval import (
    DEFAULT_SIZE,
    ChunkSettings,
    Expand,
    Fusion,
    Index,
    Reranker,
    SearchSettings,
    Strategy,
    approximate_tokens,
    judge_fusions,
    make_search,
)
from llmwright.statistics import mean_score, paired_bootstrap

SIZES = (110, DEFAULT_SIZE, 440, 800)
STRATEGIES: tuple[Strategy, ...] = (
    "recursive", "structure", "sentence", "parent-child", "semantic", "late",
)  # fmt: skip
EXPANSIONS: tuple[Expand, ...] = ("clauses", "iterated")
SHARES = (0.2, 0.4, 0.6)
"""Of a hit's score that its neighbours give."""
WEIGHTS = (0.3, 0.6, 1.0)
"""Of the reranker's vote."""
METRIC: Literal["ndcg@10"] = "ndcg@10"
CONTEXT = 1500
"""Tokens of passages in a prompt, roughly: what ``answering`` gives a model by default."""

_UPSERT = 256  # documents committed at a time: what a kill can cost
_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to cut and to find. ``values`` are the metric by question of the half ``tune``."""

    chunking: ChunkSettings = field(default_factory=ChunkSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    reranked: bool = False
    values: tuple[float | None, ...] = ()
    seconds: float = 0.0

    @property
    def score(self) -> Score:
        return mean_score(METRIC, self.values)

    @property
    def label(self) -> str:
        """What sets it apart, short enough for a table."""
        parts = [self.chunking.label, self.search.mode]
        if self.search.fusion != Fusion():
            parts.append("learned weights")
        if self.search.expand != "none":
            parts.append(self.search.expand)
        if self.search.neighbours:
            parts.append(f"neighbours {self.search.neighbours:g}")
        if self.reranked:
            parts.append(f"reranked {self.search.rerank_weight:g}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was tried and what is chosen. ``figures`` are, by metric, of the half ``eval``: the
    default, the choice, and their paired difference. ``skipped`` had no time left."""

    trials: list[Trial]
    best: Trial
    figures: Mapping[str, tuple[Score, Score, Score]]
    skipped: list[str]


def tune_retrieval(
    documents: Sequence[Document],
    questions: Sequence[Question],
    embedder: Embedder,
    folder: Path,
    *,
    minutes: float = 10.0,
    reranker: Reranker | None = None,
    reranker_key: str = "",
    context: int = CONTEXT,
    sizes: Sequence[int] = SIZES,
    strategies: Sequence[Strategy] = STRATEGIES,
    seed: int = 0,
    say: Callable[[str], None] = lambda _line: None,
) -> Tuning:
    """Search for about ``minutes`` and report; ``say`` is told of each trial. ``reranker_key``
    says which reranker it is, so that trials with another are not taken for trials with it.

    Raises ``ConfigurationError`` where one of the halves has no question with relevant places,
    ``InputError`` for a place that is not there.
    """
    halves = {
        split: [q for q in questions if q.split == split and q.relevant]
        for split in ("tune", "eval")
    }
    for split, half in halves.items():
        if not half:
            raise ConfigurationError(
                f"no question with relevant places has the split {split!r}",
                where="questions",
                fix="give some to choose by (tune) and others to judge the choice (eval)",
            )
    bench = _Bench(documents, embedder, folder, context, reranker, reranker_key, seed)
    tuner = _Tuner(bench, halves["tune"], time.monotonic() + 60 * minutes, say)
    best = tuner.run(sizes, strategies)
    default, chosen = (bench.judge(trial, halves["eval"]) for trial in (tuner.trials[0], best))
    figures = {}
    for name in (METRIC, f"recall@{_DEPTH}", f"mrr@{_DEPTH}"):
        one, other = ([record[name] for record in half] for half in (default, chosen))
        figures[name] = (
            mean_score(name, one, seed),
            mean_score(name, other, seed),
            paired_bootstrap(one, other, seed),
        )
    return Tuning(tuner.trials, best, figures, tuner.skipped)


def within(search: Search, context: int) -> Search:
    """``search``, cut where its hits with their headings have filled ``context`` tokens; the
    first stays whatever it measures."""

    def fitting(query: str, top: int) -> list[Hit]:
        kept: list[Hit] = []
        room = context
        for hit in search(query, top):
            room -= approximate_tokens(hit.chunk.text) + approximate_tokens(hit.chunk.heading)
            if room < 0 and kept:
                break
            kept.append(hit)
        return kept

    return fitting


class _Bench:
    """Indexes by way of cutting, and judgements over them."""

    def __init__(
        self,
        documents: Sequence[Document],
        embedder: Embedder,
        folder: Path,
        context: int,
        reranker: Reranker | None,
        reranker_key: str,
        seed: int,
    ) -> None:
        self.documents, self.embedder, self.folder = documents, embedder, folder
        self.context, self.seed = context, seed
        self.reranker, self.reranker_key = reranker, reranker_key
        about = [embedder.name, getattr(embedder, "fingerprint", "")]
        self.key = content_hash([about, sorted(content_hash(asdict(d)) for d in documents)])

    def index(self, chunking: ChunkSettings) -> Index:
        """The documents cut in this way. One that a kill left unfinished is gone on with."""
        path = self.folder / "indexes" / content_hash([self.key, asdict(chunking)])[:16]
        if (path / "index.json").is_file():
            index = Index.open(path, self.embedder)
        else:
            index = Index.create(path, self.embedder, chunking=chunking)
        for start in range(0, len(self.documents), _UPSERT):
            index.upsert(self.documents[start : start + _UPSERT])
        return index

    def judge(self, trial: Trial, questions: Sequence[Question]) -> list[dict[str, Any]]:
        """The metrics of each question, of what fits the context."""
        index = self.index(trial.chunking)
        reranker = self.reranker if trial.reranked else None
        search = within(make_search(index, trial.search, reranker=reranker), self.context)
        report = evaluate_retrieval(
            search, questions, index.section_span, ks=(_DEPTH,), seed=self.seed
        )
        return [record["metrics"] for record in report.records]

    def learned(self, chunking: ChunkSettings, questions: Sequence[Question]) -> Fusion:
        """The weights of the hybrid's rankings; the default where nothing better is proved."""
        index = self.index(chunking)
        chunks = {chunk.id: chunk for chunk in index.chunks()}
        rankings = index.rankings([question.question for question in questions])
        wanted = []
        for question, by_name in zip(questions, rankings, strict=True):
            spans = [index.section_span(label) for label in question.relevant]
            found = {identity for ranking in by_name.values() for identity, _ in ranking}
            wanted.append({i for i in found if any(finds(chunks[i], span) for span in spans)})
        return judge_fusions(rankings, wanted, METRIC, seed=self.seed).fusion


class _Tuner:
    """The greedy search over one bench, with the half of the questions that it may look at."""

    def __init__(
        self,
        bench: _Bench,
        questions: Sequence[Question],
        until: float,
        say: Callable[[str], None],
    ) -> None:
        self.bench, self.questions, self.until, self.say = bench, questions, until, say
        self.trials: list[Trial] = []
        self.skipped: list[str] = []

    def run(self, sizes: Sequence[int], strategies: Sequence[Strategy]) -> Trial:
        """The best trial; where gains cannot be told from chance, the defaults stand."""
        best = self.attempt(Trial())
        for size in sizes:
            best = self.better(best, replace(best, chunking=ChunkSettings(size=size)))
        for strategy in strategies:
            if strategy == "late" and not hasattr(self.bench.embedder, "embed_spans"):
                continue  # it needs vectors of tokens, which an endpoint or a cache does not give
            size = best.chunking.size
            cut = ChunkSettings(strategy, size, parent_size=4 * size)
            best = self.better(best, replace(best, chunking=cut))
        for mode in ("lexical", "dense"):
            best = self.better(best, replace(best, search=replace(best.search, mode=mode)))
        if best.search.mode == "hybrid" and self.in_time(best):
            fusion = self.bench.learned(best.chunking, self.questions)
            best = self.better(best, replace(best, search=replace(best.search, fusion=fusion)))
        for expand in EXPANSIONS:
            best = self.better(best, replace(best, search=replace(best.search, expand=expand)))
        for share in SHARES:
            best = self.better(best, replace(best, search=replace(best.search, neighbours=share)))
        if self.bench.reranker is not None:
            for weight in WEIGHTS:
                search = replace(best.search, rerank_weight=weight)
                best = self.better(best, replace(best, search=search, reranked=True))
        return best

    def better(self, best: Trial, trial: Trial) -> Trial:
        """The new one if it is told apart from the best so far, and better."""
        if any(_same(trial, other) for other in self.trials):
            return best
        if not self.in_time(trial):
            self.skipped.append(trial.label)
            return best
        trial = self.attempt(trial)
        gain = paired_bootstrap(best.values, trial.values, self.bench.seed)
        return trial if gain.low is not None and gain.low > 0 else best

    def in_time(self, trial: Trial) -> bool:
        """Whether it should be finished in time; a new way to cut needs what the slowest did."""
        alike = [t.seconds for t in self.trials if t.chunking == trial.chunking]
        expected = min(alike) if alike else max(t.seconds for t in self.trials)
        return time.monotonic() + expected <= self.until

    def attempt(self, trial: Trial) -> Trial:
        """Judge it, or read how it was judged before."""
        questions = [question.id for question in self.questions]
        about = [self.bench.key, self.bench.context, questions, _decides(trial)]
        about += [self.bench.reranker_key] * trial.reranked
        file = self.bench.folder / "trials" / f"{content_hash(about)[:16]}.json"
        if file.is_file():
            kept = read_json(file)
        else:
            began = time.monotonic()
            values = [record[METRIC] for record in self.bench.judge(trial, self.questions)]
            kept = {"values": values, "seconds": time.monotonic() - began}
            write_json(file, kept)
        trial = replace(trial, values=tuple(kept["values"]), seconds=kept["seconds"])
        self.trials.append(trial)
        self.say(f"{_value(trial):.4f}  {trial.label}")
        return trial


def _decides(trial: Trial) -> dict[str, Any]:
    return {
        "chunking": asdict(trial.chunking),
        "search": asdict(trial.search),
        "reranked": trial.reranked,
    }


def _same(one: Trial, other: Trial) -> bool:
    return _decides(one) == _decides(other)


def _value(trial: Trial) -> float:
    return trial.score.value or 0.0
