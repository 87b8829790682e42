"""`llmwright init`: write a recipe to start from."""

from __future__ import annotations

from pathlib import Path

import click

from llmwright.cli.options import PATH


@click.command(name="init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--documents", type=PATH, help="A folder or a file. [default: FOLDER/documents, made here]"
)
def command(folder: Path, documents: Path | None) -> None:
    """Write a commented recipe into FOLDER.

    \b
    Example:
      llmwright init my-assistant --documents docs/
    """
    from llmwright.build import write_starter

    for path in write_starter(folder, documents):
        click.echo(f"wrote {path}")
    click.echo(f"next: llmwright build {folder}")
