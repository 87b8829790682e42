"""Work for a client lasts as long as the client: when it hangs up, the work is cancelled.

ASGI tells of a closed connection only to those who wait for it, so one task does the work and
one waits for ``http.disconnect``; the first to end decides. The work is over, its generators
closed and its seat in the engine free, before `while_connected` returns. The same happens when
the server shuts down, but then there is still somebody to be told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client hung up; there is nobody to answer."""


class ShutdownError(Exception):
    """The server goes down; the client is still there."""


class Shutdown:
    """A switch that all work under way watches, at no task each."""

    def __init__(self) -> None:
        self._begun = False
        self._future: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """Stop all work now. Call it in the event loop."""
        self._begun = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def future(self) -> asyncio.Future[None]:
        """Done once `begin` was called."""
        loop = asyncio.get_running_loop()
        if self._future is None or self._future.get_loop() is not loop:
            self._future = loop.create_future()
            if self._begun:
                self._future.set_result(None)
        return self._future


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T], shutdown: Shutdown) -> T:
    """Give what ``work`` returns or raises; raise `ClientGoneError` if the client goes first and
    `ShutdownError` if the server does.

    The request's body must have been read before.
    """
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((task, watch, shutdown.future()), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError if watch.done() else ShutdownError
    finally:
        task.cancel()
        watch.cancel()
        # Also when this task itself is cancelled: nothing is left running.
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
