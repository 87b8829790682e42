"""Steps made by hand: sequences with block tables of their own, in any cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from llmwright.inference.runner import Step

BLOCK = 16


@dataclass
class Text:
    """A sequence being read: its tokens, the blocks it owns, how far it is."""

    tokens: list[int]
    blocks: list[int]
    done: int = 0
    adapter: str | None = None
    logits: list[Tensor] = field(default_factory=list)  # of every token read so far


def step_of(parts: Sequence[tuple[Text, int]], **more: object) -> Step:
    """The next ``n`` tokens of each text, with the logits of all of them."""
    ids, positions, slots, starts, lengths = [], [], [], [0], []
    for text, count in parts:
        for place in range(text.done, text.done + count):
            ids.append(text.tokens[place])
            positions.append(place)
            slots.append(text.blocks[place // BLOCK] * BLOCK + place % BLOCK)
        starts.append(len(ids))
        lengths.append(text.done + count)
    widest = max(len(text.blocks) for text, _ in parts)
    tables = torch.zeros(len(parts), widest, dtype=torch.int32)
    for row, (text, _) in enumerate(parts):
        tables[row, : len(text.blocks)] = torch.tensor(text.blocks)
    adapters = tuple(text.adapter for text, _ in parts)
    return Step(
        token_ids=torch.tensor(ids),
        positions=torch.tensor(positions),
        slots=torch.tensor(slots),
        starts=torch.tensor(starts),
        lengths=torch.tensor(lengths),
        tables=tables,
        logits_at=torch.arange(len(ids)),
        adapters=adapters if any(adapters) else (),
        **more,
    )


def advance(runner, parts: Sequence[tuple[Text, int]], **more: object) -> Tensor:
    """Run the step; each text keeps its rows of logits."""
    step = step_of(parts, **more)
    logits = runner.forward(step).logits
    for row, (text, count) in enumerate(parts):
        text.logits.append(logits[step.starts[row] : step.starts[row + 1]])
        text.done += count
    return logits


def read(runner, text: Text, chunk: int) -> Tensor:
    """The logits of the whole text, ``chunk`` tokens a step."""
    while text.done < len(text.tokens):
        advance(runner, [(text, min(chunk, len(text.tokens) - text.done))])
    return torch.cat(text.logits)


def blocks_for(length: int, first: int, stride: int = 1) -> list[int]:
    return [first + stride * n for n in range((length + BLOCK - 1) // BLOCK)]
