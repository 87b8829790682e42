"""`llmwright eval`: measure search, an assistant, a model, or stored answers."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from llmwright.cli.options import (
    PATH,
    adapter_option,
    json_option,
    max_tokens_option,
    mode_option,
    model_option,
)
from llmwright.cli.output import print_comparison, print_json, print_scores
from llmwright.cli.targets import open_index
from llmwright.core import InputError, SamplingParams, SearchMode, read_jsonl, write_jsonl

if TYPE_CHECKING:
    from llmwright.data import Question
    from llmwright.evaluation import Report

_SPLIT = click.option(
    "--split",
    type=click.Choice(["eval", "tune", "all"]),
    default="eval",
    help="Which of the questions.",
)
_QUESTIONS = click.option(
    "--questions",
    required=True,
    type=PATH,
    help='JSONL of {"question", "answer", "relevant", "split"}.',
)
_OUT = click.option("--out", type=PATH, help="Where the records go, as JSONL.")


@click.group(name="eval")
def command() -> None:
    """Measure, with 95% intervals and a record for every question.

    \b
    Example:
      llmwright eval retrieval my-index --questions questions.jsonl
    """


def chosen_questions(path: Path, split: str) -> list[Question]:
    """The questions of a split. Raises ``InputError`` where there is none."""
    from llmwright.data import read_questions

    chosen = [q for q in read_questions(path) if split in ("all", q.split)]
    if not chosen:
        raise InputError(
            f"no question has the split {split!r}", where=str(path), fix="choose --split all"
        )
    return chosen


@command.command(name="retrieval")
@click.argument("index", type=PATH)
@_QUESTIONS
@_SPLIT
@mode_option
@click.option("--against", type=PATH, help="Another index, or the same, to compare with.")
@click.option(
    "--against-mode",
    type=click.Choice(get_args(SearchMode)),
    default="hybrid",
    help="How that one is searched.",
)
@_OUT
@json_option
def retrieval(
    index: Path,
    questions: Path,
    split: str,
    mode: SearchMode,
    against: Path | None,
    against_mode: SearchMode,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure search in INDEX, an index folder or a release.

    With --against, the differences are those of the other minus INDEX, paired by question.

    \b
    Example:
      llmwright eval retrieval my-index --questions questions.jsonl
      llmwright eval retrieval my-index --mode lexical --against my-index --questions Q.jsonl
    """
    from llmwright.evaluation import compare_reports, evaluate_retrieval

    chosen = chosen_questions(questions, split)

    def measured(folder: Path, how: SearchMode) -> Report:
        opened = open_index(folder)
        return evaluate_retrieval(
            lambda query, top: opened.search(query, top, mode=how), chosen, opened.section_span
        )

    report = measured(index, mode)
    if out is not None:
        write_jsonl(out, report.records)
    if against is None:
        print_scores(report.scores, as_json)
        return
    other = measured(against, against_mode)
    print_comparison(report.scores, other.scores, compare_reports(report, other), as_json)


@command.command(name="run")
@click.argument("run", type=PATH)
@click.argument("other", required=False, type=PATH)
@click.option("--qrels", required=True, type=PATH, help="Judgements in TREC's format.")
@_OUT
@json_option
def trec_run(run: Path, other: Path | None, qrels: Path, out: Path | None, as_json: bool) -> None:
    """Score RUN, a TREC run of any program.

    With OTHER, a second run, the differences are OTHER minus RUN, paired by query.

    \b
    Example:
      llmwright eval run bm25.trec hybrid.trec --qrels qrels.txt
    """
    from llmwright.evaluation import compare_reports, evaluate_run, read_judgements, read_run

    judged = read_judgements(qrels)
    report = evaluate_run(read_run(run), judged)
    if out is not None:
        write_jsonl(out, report.records)
    if other is None:
        print_scores(report.scores, as_json)
        return
    second = evaluate_run(read_run(other), judged)
    print_comparison(report.scores, second.scores, compare_reports(report, second), as_json)


@command.command(name="answers")
@click.argument("release", type=PATH)
@_QUESTIONS
@_SPLIT
@click.option(
    "--out",
    required=True,
    type=PATH,
    help="Where the records go, as JSONL; a run that was cut off goes on from it.",
)
@max_tokens_option(96)
@json_option
def answers(
    release: Path, questions: Path, split: str, out: Path, max_tokens: int, as_json: bool
) -> None:
    """Ask RELEASE the questions and score its answers.

    \b
    Example:
      llmwright eval answers my-app/release --questions questions.jsonl --out answers.jsonl
    """
    import asyncio

    chosen = chosen_questions(questions, split)

    async def run() -> Report:
        from llmwright.build import open_release
        from llmwright.evaluation import evaluate_answers

        async with aclosing(open_release(release)) as assistant:
            return await evaluate_answers(
                assistant,
                chosen,
                params=SamplingParams(max_tokens=max_tokens),
                records_path=out,
                run=assistant.hash,
            )

    print_scores(asyncio.run(run()).scores, as_json)


@command.command(name="grade")
@click.option(
    "--answers",
    "source",
    required=True,
    type=PATH,
    help='JSONL of {"answer", "gold"} and, as you like, {"id", "sources"}.',
)
@_OUT
@json_option
def grade(source: Path, out: Path | None, as_json: bool) -> None:
    """Score answers that any program has written.

    \b
    Example:
      llmwright eval grade --answers answers.jsonl --out graded.jsonl
    """
    from llmwright.evaluation import grade_answers

    report = grade_answers(source)
    if out is not None:
        write_jsonl(out, report.records)
    print_scores(report.scores, as_json)


@command.command(name="perplexity")
@model_option
@adapter_option
@click.option("--texts", required=True, type=PATH, help='JSONL of {"text"}.')
@json_option
def perplexity(model: str, adapter: Path | None, texts: Path, as_json: bool) -> None:
    """Measure how well a model predicts texts.

    Perplexity: exp of the mean loss per token.

    \b
    Example:
      llmwright eval perplexity --texts held-out.jsonl
    """
    from llmwright.inference import perplexity as measure
    from llmwright.modeling import load_model, merge_adapter

    records = read_jsonl(texts, "text")
    loaded = load_model(model)
    if adapter is not None:
        merge_adapter(loaded.decoder, adapter)
    result = measure(loaded, [record["text"] for record in records])
    if as_json:
        print_json({"perplexity": result.value, "tokens": result.tokens, "texts": len(records)})
    else:
        click.echo(f"perplexity {result.value:.3f} over {result.tokens} tokens")
