"""`llmwright serve`: a release or a model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from pathlib import Path

import click

from llmwright.core import ConfigurationError, settings


@click.command(name="serve")
@click.argument("release", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help="A file with the key clients must send. [default: LLMWRIGHT_API_KEY]",
)
def command(release: Path, host: str, port: int, api_key_file: Path | None) -> None:
    """Serve RELEASE at http://HOST:PORT/v1 for any OpenAI client.

    Binds to this machine alone unless told otherwise; another host needs an API key.

    \b
    Example:
      llmwright serve examples/handbook/release
      curl localhost:8000/v1/chat/completions -H 'content-type: application/json' \\
        -d '{"messages": [{"role": "user", "content": "What does alpha do in LoRA?"}]}'
    """
    from llmwright.build import open_release
    from llmwright.core import read_text
    from llmwright.gateway import create_app, serve

    key = read_text(api_key_file).strip() if api_key_file else settings().api_key
    if api_key_file and not key:
        raise ConfigurationError("the key file is empty", where=str(api_key_file), fix="fill it")
    assistant = open_release(release)
    app = create_app(
        {assistant.name: assistant},
        embedders={assistant.embedder.name: assistant.embedder},
        api_key=key,
    )

    def ready(address: str) -> None:
        click.echo(f"serving {assistant.name} at {address} (Ctrl-C ends it)", err=True)

    serve(app, host=host, port=port, ready=ready)
