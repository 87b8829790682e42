"""`llmwright search`: one query, or a file of them, against an index or a release."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from llmwright.cli.options import PATH, count_option, json_option, mode_option
from llmwright.cli.output import hit_record, place, print_json, shorten
from llmwright.cli.targets import open_index
from llmwright.core import InputError, SearchMode, atomic_write, read_located_jsonl

if TYPE_CHECKING:
    from llmwright.retrieval import Fusion, Index


@click.command(name="search")
@click.argument("index", type=PATH)
@click.argument("query", required=False)
@click.option("--queries", type=PATH, help='JSONL of {"id", "text"}.')
@count_option("--top", 5, "Hits wanted.")
@mode_option
@click.option(
    "--fusion",
    type=click.Choice(["rrf", "weighted"]),
    default="rrf",
    help="Of both retrievers: by reciprocal ranks, or weighted scores.",
)
@click.option(
    "--fusion-weights",
    default="",
    metavar="NAME=W,...",
    help="What each retriever weighs, say lexical=1,dense=0.5.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "trec"]),
    default="jsonl",
    help="Of the batch: hits, or a TREC run of documents.",
)
@click.option("--out", type=PATH, help="Of the batch. [default: printed]")
@json_option
def command(
    index: Path,
    query: str | None,
    queries: Path | None,
    top: int,
    mode: SearchMode,
    fusion: Literal["rrf", "weighted"],
    fusion_weights: str,
    form: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Search INDEX (an index folder or a release) for QUERY.

    \b
    Example:
      llmwright search my-index "how is alpha scaled" --top 3
      llmwright search my-index --queries Q.jsonl --top 100 --format trec --out run.txt
    """
    if (query is None) == (queries is None):
        raise click.UsageError("give one QUERY, or --queries FILE")
    from llmwright.retrieval import Fusion

    fused = Fusion(fusion, weights=_weights(fusion_weights))
    opened = open_index(index)
    if queries is None:
        _one(opened, query or "", top, mode, fused, as_json)
        return
    lines = _batch(opened, _read(queries), top, mode, fused, form)
    if out is None:
        for line in lines:
            click.echo(line)
        return
    with atomic_write(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def _weights(text: str) -> dict[str, float]:
    """Weights by retriever, of ``lexical=1,dense=0.5``."""
    weights: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError as error:
            raise InputError(
                f"{part!r} is not a weight",
                where="--fusion-weights",
                fix="write them like lexical=1,dense=0.5",
            ) from error
    return weights


def _one(
    index: Index, query: str, top: int, mode: SearchMode, fusion: Fusion, as_json: bool
) -> None:
    hits = index.search(query, top, mode=mode, fusion=fusion)
    if as_json:
        print_json([hit_record(hit) for hit in hits])
        return
    for number, hit in enumerate(hits, start=1):
        found = ", ".join(f"{name} rank {rank}" for name, rank in hit.ranks.items())
        click.secho(f"{number}. {place(hit)}", bold=True)
        click.secho(f"   {hit.score:.4f}  {found}", dim=True)
        click.echo(f"   {shorten(hit.chunk.text, 150)}")
    if not hits:
        click.echo("nothing found", err=True)


def _read(path: Path) -> list[tuple[str, str]]:
    """Queries with their ids. ``query`` and ``question`` are understood as names of the text."""
    pairs = []
    for where, record in read_located_jsonl(path):
        text = next((record[k] for k in ("text", "query", "question") if k in record), None)
        if not isinstance(record.get("id"), str | int) or not isinstance(text, str):
            raise InputError(
                "needs an id and a text",
                where=where,
                fix='write {"id": ..., "text": ...}',
            )
        pairs.append((str(record["id"]), text))
    return pairs


def _batch(
    index: Index,
    queries: Sequence[tuple[str, str]],
    top: int,
    mode: SearchMode,
    fusion: Fusion,
    form: str,
) -> Iterator[str]:
    from llmwright.retrieval import search_documents, trec_lines

    ids = [identity for identity, _ in queries]
    texts = [text for _, text in queries]
    if form == "trec":
        found = search_documents(index, texts, top, mode, fusion)
        for identity, ranking in zip(ids, found, strict=True):
            yield from trec_lines(identity, ranking)
        return
    many = index.search_many(texts, top, mode=mode, fusion=fusion)
    for identity, hits in zip(ids, many, strict=True):
        record: dict[str, Any] = {"id": identity, "hits": [hit_record(hit) for hit in hits]}
        yield json.dumps(record, ensure_ascii=False)
