"""How every command prints: JSON where a program reads, tables that fit 80 columns for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import click

from llmwright.core import ChatModel, Completion, Hit, Message, SamplingParams, Score, closing


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under headings; numbers are set flush right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        right = bool(rows) and all(isinstance(row[number], int | float) for row in rows)
        justify: Literal["right", "left"] = "right" if right else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row))
    Console().print(table)


def print_scores(scores: Sequence[Score], as_json: bool) -> None:
    """Print figures with their 95% intervals."""
    if as_json:
        print_json([asdict(score) for score in scores])
        return
    print_table(["figure", "value", "95% interval", "n"], [_score_row(score) for score in scores])


def print_comparison(
    first: Sequence[Score], second: Sequence[Score], differences: Sequence[Score], as_json: bool
) -> None:
    """Print what two systems reach and, paired by question, by how much the second is better."""
    if as_json:
        named = {"first": first, "second": second, "difference": differences}
        print_json({name: [asdict(s) for s in scores] for name, scores in named.items()})
        return
    values = [{s.name: s for s in scores} for scores in (first, second)]
    rows = []
    for difference in differences:
        _, value, interval, count = _score_row(difference)
        reached = [_score_row(by_name[difference.name])[1] for by_name in values]
        rows.append([difference.name, *reached, value, interval, count])
    print_table(["figure", "first", "second", "difference", "95% interval", "n"], rows)


def _score_row(score: Score) -> list[object]:
    count = f"{score.n}, {score.unscored} unscored" if score.unscored else score.n
    if score.value is None:
        return [score.name, "unscored", "", count]
    interval = ""
    if score.low is not None and score.high is not None:
        interval = f"{score.low:.3f} to {score.high:.3f}"
    return [score.name, f"{score.value:.3f}", interval, count]


def hit_record(hit: Hit) -> dict[str, Any]:
    """A hit as programs read it."""
    chunk = hit.chunk
    return {
        "document_id": chunk.document_id,
        "start": chunk.start,
        "end": chunk.end,
        "heading": chunk.heading,
        "score": hit.score,
        "ranks": dict(hit.ranks),
        "text": chunk.text,
    }


def shorten(text: str, width: int) -> str:
    """One line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


async def print_answer(
    model: ChatModel, messages: Sequence[Message], params: SamplingParams
) -> Completion:
    """Print an answer as it comes, then further ones, then its sources. Returns the whole of it."""
    completion = Completion("")
    async with closing(model.stream(messages, params)) as stream:
        async for delta in stream:
            click.echo(delta.text, nl=False)
            completion = delta.completion or completion
    click.echo()
    for number, other in enumerate(completion.alternatives, start=2):
        click.secho(f"\n--- answer {number}", dim=True)
        click.echo(other.text)
    for number, hit in enumerate(completion.sources, start=1):
        click.secho(f"  [{number}] {shorten(place(hit), 74)}", dim=True)
    return completion


def place(hit: Hit) -> str:
    """Where a hit stands, for people."""
    return " · ".join(filter(None, (hit.chunk.document_id, hit.chunk.heading)))
