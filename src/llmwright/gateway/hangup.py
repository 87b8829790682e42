"""Work for a client lasts as long as the client: when it hangs up, the work is cancelled.

ASGI tells of a closed connection only to those who wait for it, so one task does the work and
one waits for ``http.disconnect``; the first to end decides. The work is over, its generators
closed and its seat in the engine free, before `while_connected` returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client hung up; there is nobody to answer."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Give what ``work`` returns or raises; raise `ClientGoneError` if the client goes first.

    The request's body must have been read before.
    """
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError
    finally:
        task.cancel()
        watch.cancel()
        # Also when this task itself is cancelled, as at a shutdown: nothing is left running.
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
