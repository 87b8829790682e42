"""Progress on standard error: a bar with rate and time left on a terminal, and plain lines
(one per step of ten per cent, at most one every two seconds) where output goes to a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from llmwright.core.settings import settings


class Advance(Protocol):
    """Say that ``count`` more are done; ``note``, where given, stands beside the label."""

    def __call__(self, count: int, note: str = "") -> None: ...


@contextmanager
def progress(label: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
    """Show how far a piece of work is.

    >>> with progress("embedding", total=10, unit="chunks") as advance:
    ...     advance(10)
    """
    if not settings().progress:
        yield lambda count, note="": None
        return
    if sys.stderr.isatty():
        yield from _bar(label, total, unit)
    else:
        yield from _lines(label, total, unit)


def _bar(label: str, total: int | None, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        task = bars.add_task(label, total=total)

        def advance(count: int, note: str = "") -> None:
            bars.update(task, advance=count, description=f"{label} {note}".rstrip())

        yield advance


def _lines(label: str, total: int | None, unit: str) -> Iterator[Advance]:
    done, shown, began = 0, 0, time.monotonic()
    said = began

    def advance(count: int, note: str = "") -> None:
        nonlocal done, shown, said
        done += count
        now = time.monotonic()
        tenth = 10 * done // total if total else 0
        if now - said >= 2.0 and (tenth > shown or not total):
            shown, said = tenth, now
            of = f"/{total}" if total else ""
            after = f", {note}" if note else ""
            print(f"  {label}: {done}{of} {unit} ({now - began:.0f} s){after}", file=sys.stderr)

    yield advance
