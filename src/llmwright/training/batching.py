"""From chat records to batches: which examples, in which order, and which of them together.

An example becomes the tokens up to its last target; nothing after it is read. Position t
predicts token t + 1, so an example of n tokens is read as n - 1 inputs, and the vocabulary is only
asked at positions whose next token is a target.

Order: each epoch is a permutation drawn from the seed and the epoch alone. It is sorted by length
inside windows of eight batches, cut into batches, and the batches are shuffled again: examples of
one batch are near in length, at no visible loss of randomness (the windows differ every epoch).
A batch is split into passes of at most ``tokens_per_pass`` padded tokens, longest first, where it
wastes least. Causal attention never looks to the right, so padding stands there and needs no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from llmwright.core import Example, InputError
from llmwright.tokenization import Tokenizer
from llmwright.training.config import LoraSettings

_WINDOW = 8  # batches sorted by length together
_PASS_COST = 64  # tokens' worth of time that one more pass costs


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """One example in tokens; ``mask`` is True on those to learn, the last one among them."""

    ids: Tensor  # [length]
    mask: Tensor  # [length]

    @property
    def inputs(self) -> int:
        return len(self.ids) - 1

    @property
    def targets(self) -> int:
        return int(self.mask[1:].sum())


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The examples that fit, and how many did not."""

    examples: tuple[TokenizedExample, ...]
    cut: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Pass:
    """What goes through the model at once."""

    inputs: Tensor  # [rows, time], padded on the right
    places: Tensor  # [targets], indices into the flattened inputs whose next token is learnt
    targets: Tensor  # [targets], those tokens


def tokenize(
    examples: Sequence[Example], tokenizer: Tokenizer, settings: LoraSettings
) -> TrainingData:
    """Render and encode the examples; apply the rule for those that are too long.

    Raises ``InputError`` where there is no example, one has nothing to learn, or none fits.
    """
    if not examples:
        raise InputError("there is no example to learn from", where="training data", fix="add some")
    kept: list[TokenizedExample] = []
    cut = dropped = 0
    for number, example in enumerate(examples, start=1):
        ids, mask = tokenizer.encode_chat_spans(example.messages)
        learnt = [place for place, wanted in enumerate(mask) if wanted and place > 0]
        if not learnt:
            raise InputError(
                "there is no token of an answer to learn",
                where=f"example {example.id or number}",
                fix="end it with an answer of the assistant, or remove it",
            )
        end = learnt[-1] + 1
        begin = max(0, end - settings.max_length)
        # Token ``begin`` is only read, so the first target has to stand behind it.
        if begin and (settings.too_long == "drop" or learnt[0] <= begin):
            dropped += 1
            continue
        cut += begin > 0
        kept.append(TokenizedExample(torch.tensor(ids[begin:end]), torch.tensor(mask[begin:end])))
    if not kept:
        raise InputError(
            f"none of the {len(examples)} examples fits into {settings.max_length} tokens",
            where="training data",
            fix="raise max_length or shorten the examples",
        )
    return TrainingData(tuple(kept), cut, dropped)


def batches(
    examples: Sequence[TokenizedExample], settings: LoraSettings, epoch: int
) -> list[list[int]]:
    """The batches of one epoch, as indices; each example once, the last batch may be smaller."""
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)

    def shuffled(count: int) -> list[int]:
        return torch.randperm(count, generator=generator).tolist()

    order = shuffled(len(examples))
    window = _WINDOW * settings.batch_size
    grouped: list[int] = []
    for start in range(0, len(order), window):
        grouped += sorted(order[start : start + window], key=lambda i: -examples[i].inputs)
    size = settings.batch_size
    cut = [grouped[start : start + size] for start in range(0, len(grouped), size)]
    return [cut[place] for place in shuffled(len(cut))]


def passes(batch: Sequence[TokenizedExample], settings: LoraSettings) -> list[Pass]:
    """Split a batch so that no pass is wider than asked for, unless one example alone is, and so
    that padding and passes together cost least."""
    rows = sorted(batch, key=lambda example: -example.inputs)
    # Shortest path over the sorted rows: cost[n] is the least for the first n, and the last pass
    # on the way there starts at came_from[n]. Its first row is its widest.
    cost, came_from = [0], [0]
    for end in range(1, len(rows) + 1):
        ways = []
        for start in range(end):
            padded = (end - start) * rows[start].inputs
            if padded <= settings.tokens_per_pass or end - start == 1:
                ways.append((cost[start] + padded + _PASS_COST, start))
        cheapest, start = min(ways)
        cost.append(cheapest)
        came_from.append(start)
    ends = [len(rows)]
    while ends[-1]:
        ends.append(came_from[ends[-1]])
    return [_pad(rows[start:end]) for start, end in pairwise(reversed(ends))]


def _pad(rows: Sequence[TokenizedExample]) -> Pass:
    width = rows[0].inputs
    inputs = torch.zeros(len(rows), width, dtype=torch.long)
    places, targets = [], []
    for number, row in enumerate(rows):
        inputs[number, : row.inputs] = row.ids[:-1]
        wanted = row.mask[1:].nonzero().squeeze(1)  # position t predicts token t + 1
        places.append(number * width + wanted)
        targets.append(row.ids[1:][wanted])
    return Pass(inputs, torch.cat(places), torch.cat(targets))
