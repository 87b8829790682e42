"""Diverse beam search: groups of beams, each kept from saying what the groups before it say.

    at each step, for group g = 1 .. G in order:
        rank extensions y by   log P(y | x) - lambda * #{beams of groups 1 .. g-1 that chose
                                                         the same token at this step}

the Hamming diversity of Vijayakumar et al., "Diverse Beam Search: Decoding Diverse Solutions from
Neural Sequence Models", 2016, arXiv 1610.02424. The penalty decides who is chosen and is then
forgotten, as in the paper's objective: scores stay log-probabilities, so groups compare. (The
group beam search that transformers had summed the penalties into the scores.)

The first group is plain beam search with B/G beams. Costs what beam search with B beams costs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmwright.inference.decoding.beam import BeamSearch
from llmwright.inference.decoding.search import Branch, Hypothesis
from llmwright.inference.decoding.state import SamplingState


class DiverseBeamSearch:
    """A ``Search`` of several groups; ``state`` is that of the prompt, and its parameters say how
    many groups of how many beams, and how strongly they are kept apart (lambda)."""

    needs_hidden = False

    def __init__(self, state: SamplingState, max_tokens: int) -> None:
        self.width = state.params.num_beams
        self._penalty = state.params.diversity_penalty
        groups = range(state.params.num_beam_groups)
        self._groups = [BeamSearch(state, max_tokens) for _ in groups]
        self._rows = [[0] for _ in groups]  # live branches of each group; first the prompt

    def start(self, hidden: Tensor) -> None:
        """Beams do not look at hidden states."""

    def advance(self, logits: Tensor, hidden: Tensor | None = None) -> list[Branch]:
        """See ``Search``."""
        chosen = torch.zeros(logits.shape[-1], device=logits.device)  # [vocab]
        branches: list[Branch] = []
        for number, group in enumerate(self._groups):
            rows, self._rows[number] = self._rows[number], []
            if group.done:
                continue
            for branch in group.advance(logits[rows], penalty=self._penalty * chosen):
                self._rows[number].append(len(branches))
                branches.append(Branch(rows[branch.parent], branch.token))
            for token in group.said:
                chosen[token] += 1
        return branches

    def results(self) -> list[Hypothesis]:
        """Of all groups together; equal texts of several groups count once."""
        found: dict[tuple[int, ...], Hypothesis] = {}
        for group in self._groups:
            for hypothesis in group.results():
                found.setdefault(hypothesis.token_ids, hypothesis)
        return sorted(found.values(), key=lambda h: -h.score)
