"""`llmwright ask`: one question, or a file of them, to a release."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

from llmwright.cli.batch import answer_file
from llmwright.cli.output import hit_record, json_option, print_answer, print_json
from llmwright.core import Completion, InputError, Message, SamplingParams, read_jsonl


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
        asyncio.run(_ask_all(release, read_jsonl(questions, {"question": str}), params, out))
        return
    if question is None or not question.strip():
        raise InputError("the question is empty", fix="ask something")
    asyncio.run(_ask(release, question, params, as_json))


async def _ask(release: Path, question: str, params: SamplingParams, as_json: bool) -> None:
    from llmwright.build import open_release

    async with aclosing(open_release(release)) as assistant:
        if as_json:
            completion = await assistant.complete([Message("user", question)], params)
            print_json({"question": question, **_record(completion)})
        else:
            await print_answer(assistant, [Message("user", question)], params)


async def _ask_all(
    release: Path, records: Sequence[dict[str, Any]], params: SamplingParams, out: Path
) -> None:
    from llmwright.build import open_release

    def kept(place: int) -> dict[str, Any]:
        return {key: records[place][key] for key in ("id", "question") if key in records[place]}

    async with aclosing(open_release(release)) as assistant:
        await answer_file(
            assistant,
            assistant.hash,
            [[Message("user", record["question"])] for record in records],
            params,
            out,
            lambda place, answer: {**kept(place), **_record(answer)},
            lambda place, error: {**kept(place), "error": error},
        )


def _record(completion: Completion) -> dict[str, Any]:
    return {
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
