"""`llmwright ask`: one question, or a file of them, to a release."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

from llmwright.cli.batch import answer_file
from llmwright.cli.options import PATH, json_option, max_tokens_option
from llmwright.cli.output import hit_record, print_answer, print_json
from llmwright.core import Completion, Message, SamplingParams, read_jsonl


@click.command(name="ask")
@click.argument("release", type=PATH)
@click.argument("question", required=False)
@click.option("--questions", type=PATH, help='JSONL of {"question"} and, as you like, {"id"}.')
@click.option("--out", type=PATH, help="Where their answers go, as JSONL.")
@max_tokens_option(256)
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
    import asyncio

    question = (question or "").strip()
    if bool(question) == (questions is not None) or (questions is None) != (out is None):
        raise click.UsageError("give one QUESTION, or --questions FILE with --out FILE")
    params = SamplingParams(max_tokens=max_tokens)
    records = read_jsonl(questions, "question") if questions else [{"question": question}]
    requests = [(record, [Message("user", record["question"])]) for record in records]

    async def run() -> None:
        from llmwright.build import open_release

        async with aclosing(open_release(release)) as assistant:
            if out is not None:
                kept = ("id", "question")
                await answer_file(assistant, assistant.hash, requests, params, out, kept, _record)
            elif as_json:
                completion = await assistant.complete(requests[0][1], params)
                print_json({"question": question, **_record(completion)})
            else:
                await print_answer(assistant, requests[0][1], params)

    asyncio.run(run())


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
