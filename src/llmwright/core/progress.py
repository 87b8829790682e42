"""Progress on standard error: a bar with rate and time left on a terminal, and plain lines
(one per step of ten per cent, at most one every two seconds) where output goes to a file.

A bar appears when the work has lasted half a second, so a query that is done at once shows none,
and work inside work shows only the outer bar: whoever knows the whole tells of it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from llmwright.core.settings import settings

_DELAY = 0.5  # seconds
_SHOWN: ContextVar[bool] = ContextVar("llmwright_progress_shown", default=False)


class Advance(Protocol):
    """Say that ``count`` more are done; ``note``, where given, stands beside the label."""

    def __call__(self, count: int, note: str = "") -> None: ...


@contextmanager
def progress(label: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
    """Show how far a piece of work is.

    >>> with progress("embedding", total=10, unit="chunks") as advance:
    ...     advance(10)
    """
    if _SHOWN.get() or not settings().progress:
        yield lambda count, note="": None
        return
    before = _SHOWN.set(True)
    try:
        yield from (_bar if sys.stderr.isatty() else _lines)(label, total, unit)
    finally:
        _SHOWN.reset(before)


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

    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bars.add_task(label, total=total)

    def advance(count: int, note: str = "") -> None:
        bars.update(task, advance=count, description=f"{label} {note}".rstrip())

    # A timer, since the first step of the work may be a long one.
    timer = threading.Timer(_DELAY, bars.start)
    timer.daemon = True
    timer.start()
    try:
        yield advance
    finally:
        timer.cancel()
        timer.join()
        bars.stop()


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
