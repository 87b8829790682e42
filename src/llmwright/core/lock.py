"""One process at a time: a lock on a file that ends with the process, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmwright.core.errors import CapacityError
from llmwright.core.files import writing


@contextmanager
def exclusive(path: Path, *, busy: str, denied: str) -> Iterator[None]:
    """Hold the file ``path``, made where it is not there, and with it what its folder stands for.

    Raises ``CapacityError`` saying ``busy`` where another process holds it, and ``InputError``
    with the way out ``denied`` where the folder may not be written.
    """
    with writing(path.parent, denied):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(handle, path, busy)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, path: Path, busy: str) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: two at once are the user's to avoid
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CapacityError(
            busy, where=str(path.parent), fix="wait until it has finished and try again"
        ) from error
