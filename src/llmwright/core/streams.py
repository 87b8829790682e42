"""Reading an answer to its end, and leaving it half read, which a reader must say at once.

``async for`` does not close a generator it leaves early; the garbage collector does, some time
later. Until then the work behind it goes on. ``closing`` closes it when the block ends, however
it ends, and takes any asynchronous iterator, since only generators have ``aclose``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from llmwright.core.types import Completion, Delta

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


async def completed(stream: AsyncIterator[Delta]) -> Completion:
    """Read a model's stream to its end: the whole answer, which the last delta holds.

    >>> async def complete(model, messages):
    ...     return await completed(model.stream(messages))
    """
    async with closing(stream) as deltas:
        async for delta in deltas:
            if delta.completion is not None:
                return delta.completion
    raise AssertionError("a stream ends with its completion")
