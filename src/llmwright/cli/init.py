"""`llmwright init`: write a recipe to start from."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--documents",
    "documents",
    type=click.Path(path_type=Path),
    help="Your documents: a folder or a file. [default: FOLDER/documents]",
)
def command(folder: Path, documents: Path | None) -> None:
    """Write a commented recipe into FOLDER.

    \b
    Example:
      llmwright init my-assistant --documents docs/
    """
    from llmwright.build import write_starter

    written = write_starter(folder, documents)
    for path in written:
        click.echo(f"wrote {path}")
    click.echo(f"next: llmwright build {folder}")
