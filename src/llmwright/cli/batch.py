"""The batch form of `ask` and `generate`: many conversations in, one JSONL record each out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from llmwright.core import (
    ChatModel,
    Completion,
    Journal,
    LLMwrightError,
    Message,
    SamplingParams,
    content_hash,
)


async def answer_file(
    model: ChatModel,
    identity: str,
    conversations: Sequence[Sequence[Message]],
    params: SamplingParams,
    out: Path,
    record: Callable[[int, Completion], dict[str, Any]],
    failed: Callable[[int, str], dict[str, Any]],
) -> None:
    """Answer all conversations into ``out``, in their order.

    ``identity`` says which model this is; a run of the same identity that was interrupted is gone
    on with. An error of one is written down and stops none.
    """
    from llmwright.providers import generate_many

    asked = [[asdict(message) for message in messages] for messages in conversations]
    journal = Journal(out, content_hash([identity, asdict(params), asked]))
    left = [place for place in range(len(conversations)) if place not in journal.done]
    answers = generate_many(model, [conversations[place] for place in left], params)
    errors = 0
    async for number, answer in answers:
        place = left[number]
        if isinstance(answer, LLMwrightError):
            errors += 1
            journal.add(place, failed(place, str(answer)))
        else:
            journal.add(place, record(place, answer))
    journal.finish()
    said = f", {errors} of them errors" if errors else ""
    click.echo(f"wrote {len(conversations)} answers to {out}{said}", err=True)
