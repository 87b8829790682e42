"""Leaving an answer half read: whoever stops reading a stream must say so at once.

``async for`` does not close a generator it leaves early; the garbage collector does, some time
later. Until then the work behind it goes on. ``closing`` closes it when the block ends, however
it ends, and takes any asynchronous iterator, since only generators have ``aclose``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def closing(stream: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Give ``stream``, and close it when the block ends.

    >>> async def first(model, messages):
    ...     async with closing(model.stream(messages)) as stream:
    ...         async for delta in stream:
    ...             return delta
    """
    try:
        yield stream
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
