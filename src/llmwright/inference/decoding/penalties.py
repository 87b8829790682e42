"""Penalties on tokens that occurred already.

    repetition (prompt and answer, once):  z_i <- z_i / r  where z_i > 0,  z_i r  where z_i < 0
    frequency and presence (answer):       z_i <- z_i - f count_i - s [count_i > 0]

Repetition: Keskar et al., "CTRL: A Conditional Transformer Language Model", 2019, arXiv
1909.05858, in the form of transformers, since dividing a negative logit would reward it. Frequency
and presence: the OpenAI API. Order as in vLLM: repetition first.

Counts are kept as tokens come, sparse; applying them touches only the tokens that occurred, of
all sequences of a batch in one gather and one scatter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmwright.core import SamplingParams


def has_penalties(params: SamplingParams) -> bool:
    """Whether any of the three does something."""
    return (
        params.repetition_penalty != 1.0
        or params.presence_penalty != 0.0
        or params.frequency_penalty != 0.0
    )


class TokenCounts:
    """Which tokens occurred in prompt and answer, and how often in the answer.

    Distinct tokens lie in the order of their first occurrence, in buffers that double when full.
    """

    def __init__(self, prompt_ids: Sequence[int], repetition: bool) -> None:
        # Without a repetition penalty the prompt counts for nothing.
        distinct = list(dict.fromkeys(prompt_ids)) if repetition else []
        self._places = {token: place for place, token in enumerate(distinct)}
        self._ids = torch.zeros(max(64, 2 * len(distinct)), dtype=torch.long)
        self._ids[: len(distinct)] = torch.tensor(distinct, dtype=torch.long)
        self._counts = torch.zeros(len(self._ids))

    @property
    def ids(self) -> Tensor:
        """Distinct tokens [n]."""
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> Tensor:
        """How often each of ``ids`` stands in the answer, float32 [n]."""
        return self._counts[: len(self._places)]

    def add(self, token: int) -> None:
        """Count a token of the answer."""
        place = self._places.get(token)
        if place is None:
            place = self._places[token] = len(self._places)
            if place == len(self._ids):
                self._ids = torch.cat([self._ids, torch.zeros_like(self._ids)])
                self._counts = torch.cat([self._counts, torch.zeros_like(self._counts)])
            self._ids[place] = token
        self._counts[place] += 1.0

    def clone(self) -> TokenCounts:
        """A copy that goes its own way."""
        other = object.__new__(TokenCounts)
        other._places = dict(self._places)
        other._ids, other._counts = self._ids.clone(), self._counts.clone()
        return other


def apply_penalties(
    logits: Tensor, counted: Sequence[tuple[TokenCounts, SamplingParams]], rows: Sequence[int]
) -> None:
    """Change logits [any, vocab] in place: ``counted[i]`` belongs to row ``rows[i]``."""
    sizes = torch.tensor([len(counts.ids) for counts, _ in counted])

    def spread(values: list[float] | list[int]) -> Tensor:  # one a sequence -> one a token
        return torch.tensor(values).repeat_interleave(sizes).to(logits.device)

    row = spread(list(rows))  # [tokens of all sequences]
    ids = torch.cat([counts.ids for counts, _ in counted]).to(logits.device)
    count = torch.cat([counts.counts for counts, _ in counted]).to(logits.device)
    repetition = spread([params.repetition_penalty for _, params in counted])
    frequency = spread([params.frequency_penalty for _, params in counted])
    presence = spread([params.presence_penalty for _, params in counted])
    z = logits[row, ids]
    z = torch.where(z > 0, z / repetition, z * repetition)
    logits[row, ids] = z - frequency * count - presence * (count > 0)
