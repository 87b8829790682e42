"""Many conversations through one model, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from llmwright.core import (
    ChatModel,
    Completion,
    LLMwrightError,
    Message,
    SamplingParams,
    progress,
)


async def generate_many(
    model: ChatModel,
    conversations: Sequence[Sequence[Message]],
    params: SamplingParams | None = None,
    *,
    concurrency: int = 32,
) -> AsyncGenerator[tuple[int, Completion | LLMwrightError], None]:
    """Answer all ``conversations``; gives each one's place and answer as it is finished.

    An ``LLMwrightError`` stands in the place of the answer that it prevented and stops no other;
    any other error ends the run. Leaving the iterator cancels what is under way.
    """
    places = iter(range(len(conversations)))
    tasks: dict[asyncio.Task[Completion], int] = {}

    def start_next() -> None:
        if (place := next(places, None)) is not None:
            tasks[asyncio.create_task(model.complete(conversations[place], params))] = place

    for _ in range(concurrency):
        start_next()
    try:
        with progress("generating", len(conversations), "conversations") as advance:
            while tasks:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=tasks.__getitem__):
                    place = tasks.pop(task)
                    start_next()
                    advance(1)
                    error = task.exception()
                    yield place, error if isinstance(error, LLMwrightError) else task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
