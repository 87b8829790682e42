"""`llmwright ask`: one question, or a file of them, to a release."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmwright.cli.output import json_option, print_json, shorten
from llmwright.core import (
    ChatModel,
    Completion,
    InputError,
    LLMwrightError,
    Message,
    SamplingParams,
    progress,
    read_jsonl,
    write_jsonl,
)

if TYPE_CHECKING:
    from llmwright.build import Assistant


@click.command(name="ask")
@click.argument("release", type=click.Path(path_type=Path))
@click.argument("question", required=False)
@click.option(
    "--questions",
    type=click.Path(path_type=Path),
    help='JSONL with {"question"} and, as you like, {"id"}.',
)
@click.option("--out", type=click.Path(path_type=Path), help="Where the answers go, as JSONL.")
@click.option("--max-tokens", default=256, show_default=True, type=click.IntRange(1))
@json_option
def command(
    release: Path,
    question: str | None,
    questions: Path | None,
    out: Path | None,
    max_tokens: int,
    as_json: bool,
) -> None:
    """Ask RELEASE a QUESTION and show the answer with its sources.

    \b
    Example:
      llmwright ask examples/handbook/release "What does alpha do in LoRA?"
      llmwright ask examples/handbook/release --questions Q.jsonl --out A.jsonl
    """
    if (question is None) == (questions is None):
        raise click.UsageError("give one QUESTION, or --questions FILE with --out FILE")
    if questions is not None and out is None:
        raise click.UsageError("--questions needs --out FILE for the answers")
    params = SamplingParams(max_tokens=max_tokens)
    if questions is not None and out is not None:
        records = read_jsonl(questions, {"question": str})
        with opened(release) as assistant:
            answers = asyncio.run(_ask_all(assistant, records, params))
        write_jsonl(out, answers)
        click.echo(f"wrote {len(answers)} answers to {out}", err=True)
        return
    if question is None or not question.strip():
        raise InputError("the question is empty", fix="ask something")
    with opened(release) as assistant:
        if as_json:
            completion = asyncio.run(assistant.complete([Message("user", question)], params))
            print_json(answer_record(question, completion))
        else:
            asyncio.run(print_answer(assistant, [Message("user", question)], params))


@contextmanager
def opened(release: Path) -> Iterator[Assistant]:
    """A release that is closed at the end."""
    from llmwright.build import open_release

    assistant = open_release(release)
    try:
        yield assistant
    finally:
        assistant.close()


async def print_answer(
    model: ChatModel, messages: Sequence[Message], params: SamplingParams
) -> Completion:
    """Print an answer as it comes, then its sources. Returns the whole of it."""
    completion = Completion("")
    async for delta in model.stream(messages, params):
        click.echo(delta.text, nl=False)
        completion = delta.completion or completion
    click.echo()
    for number, hit in enumerate(completion.sources, start=1):
        place = " · ".join(filter(None, (hit.chunk.document_id, hit.chunk.heading)))
        click.secho(f"  [{number}] {shorten(place, 74)}", dim=True)
    return completion


def answer_record(question: str, completion: Completion) -> dict[str, Any]:
    return {
        "question": question,
        "answer": completion.text,
        "finish_reason": completion.finish_reason,
        "usage": {
            "prompt_tokens": completion.usage.prompt_tokens,
            "completion_tokens": completion.usage.completion_tokens,
        },
        "sources": [
            {
                "number": number,
                "document_id": hit.chunk.document_id,
                "heading": hit.chunk.heading,
                "start": hit.chunk.start,
                "end": hit.chunk.end,
                "text": hit.chunk.text,
                "score": hit.score,
            }
            for number, hit in enumerate(completion.sources, start=1)
        ],
    }


async def _ask_all(
    model: ChatModel, records: Sequence[dict[str, Any]], params: SamplingParams
) -> list[dict[str, Any]]:
    """Answer every record, in its order. An error of one is written down and stops none."""
    with progress("answering", len(records), "questions") as advance:

        async def one(record: dict[str, Any]) -> dict[str, Any]:
            kept = {"id": record["id"]} if "id" in record else {}
            question = record["question"]
            try:
                completion = await model.complete([Message("user", question)], params)
            except LLMwrightError as error:
                return {**kept, "question": question, "error": str(error)}
            finally:
                advance(1)
            return {**kept, **answer_record(question, completion)}

        return await asyncio.gather(*(one(record) for record in records))
