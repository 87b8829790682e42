"""From code that waits to code that is asynchronous: one event loop in a thread of its own.

A search runs in worker threads and may ask a ``ChatModel``, whose client belongs to the event loop
it was first used in. All such questions go to one loop, which lives as long as the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def waited(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, run on the shared loop; not to be called from an event loop, which
    it would block. A model asked through it must not be used from another loop as well."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


_lock = threading.Lock()
_running: asyncio.AbstractEventLoop | None = None


def _loop() -> asyncio.AbstractEventLoop:
    global _running
    with _lock:
        if _running is None:
            _running = asyncio.new_event_loop()
            name = "llmwright-waited"
            threading.Thread(target=_running.run_forever, name=name, daemon=True).start()
        return _running
