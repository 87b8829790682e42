"""The batch form of `ask` and `generate`: many conversations in, one JSONL record each out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    requests: Sequence[tuple[Mapping[str, Any], Sequence[Message]]],
    params: SamplingParams,
    out: Path,
    kept: Sequence[str],
    record: Callable[[Completion], dict[str, Any]],
) -> None:
    """Answer all requests, each a record and the messages it holds, into ``out``, in their order.

    An answer's record holds the fields ``kept`` of its request's. ``identity`` says which model
    this is; a run of the same identity that was interrupted is gone on with. An error of one is
    written down and stops none.
    """
    from llmwright.providers import generate_many

    asked = [[asdict(message) for message in messages] for _, messages in requests]
    journal = Journal(out, content_hash([identity, asdict(params), asked]))
    left = [place for place in range(len(requests)) if place not in journal.done]
    answers = generate_many(model, [requests[place][1] for place in left], params)
    errors = 0
    async for number, answer in answers:
        place = left[number]
        if isinstance(answer, LLMwrightError):
            errors += 1
            said = {"error": str(answer)}
        else:
            said = record(answer)
        asker = requests[place][0]
        journal.add(place, {**{name: asker[name] for name in kept if name in asker}, **said})
    journal.finish()
    among = f", {errors} of them errors" if errors else ""
    click.echo(f"wrote {len(requests)} answers to {out}{among}", err=True)
