"""`llmwright ask`: one question, or a file of them, to a release."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

from llmwright.cli.output import hit_record, json_option, print_answer, print_json
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
    if (question is None) == (questions is None) or (questions is None) != (out is None):
        raise click.UsageError("give one QUESTION, or --questions FILE with --out FILE")
    params = SamplingParams(max_tokens=max_tokens)
    if questions is not None and out is not None:
        records = read_jsonl(questions, {"question": str})
        answers = asyncio.run(_ask_all(release, records, params))
        write_jsonl(out, answers)
        failed = sum("error" in answer for answer in answers)
        said = f", {failed} of them errors" if failed else ""
        click.echo(f"wrote {len(answers)} answers to {out}{said}", err=True)
        return
    if question is None or not question.strip():
        raise InputError("the question is empty", fix="ask something")
    asyncio.run(_ask(release, question, params, as_json))


async def _ask(release: Path, question: str, params: SamplingParams, as_json: bool) -> None:
    from llmwright.build import open_release

    async with aclosing(open_release(release)) as assistant:
        if as_json:
            completion = await assistant.complete([Message("user", question)], params)
            print_json(_record(question, completion))
        else:
            await print_answer(assistant, [Message("user", question)], params)


async def _ask_all(
    release: Path, records: Sequence[dict[str, Any]], params: SamplingParams
) -> list[dict[str, Any]]:
    """Answer every record, in its order. An error of one is written down and stops none."""
    from llmwright.build import open_release

    async with aclosing(open_release(release)) as assistant:
        with progress("answering", len(records), "questions") as advance:

            async def one(record: dict[str, Any]) -> dict[str, Any]:
                kept = {"id": record["id"]} if "id" in record else {}
                answer = await _answer(assistant, record["question"], params)
                advance(1)
                return {**kept, **answer}

            return await asyncio.gather(*(one(record) for record in records))


async def _answer(model: ChatModel, question: str, params: SamplingParams) -> dict[str, Any]:
    try:
        return _record(question, await model.complete([Message("user", question)], params))
    except LLMwrightError as error:
        return {"question": question, "error": str(error)}


def _record(question: str, completion: Completion) -> dict[str, Any]:
    return {
        "question": question,
        "answer": completion.text,
        "finish_reason": completion.finish_reason,
        "usage": {
            "prompt_tokens": completion.usage.prompt_tokens,
            "completion_tokens": completion.usage.completion_tokens,
        },
        "sources": [
            {"number": number, **hit_record(hit)}
            for number, hit in enumerate(completion.sources, start=1)
        ],
    }
