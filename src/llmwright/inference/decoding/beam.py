"""Beam search: the B most probable texts so far, each extended by every token, of which the best
B go on.

    score(y) = log P(y | x) / |y|^a                  among finished texts

Sutskever, Vinyals, Le, "Sequence to Sequence Learning with Neural Networks", 2014, arXiv
1409.3215; length penalty after Wu et al., 2016, arXiv 1609.08144, in the form of transformers.

A step looks at the (1 + ends) B best extensions, so that B of them go on whatever ends. An ended
one counts only if it is among the first B. Up to B finished texts are kept, and the search ends
when they are B and (``early_stopping`` True) at once, (False) when the best live text, at its
present length, cannot beat the worst of them, ("never") when it cannot at any length up to
``max_tokens``. All of that as in transformers, whose ``generate(num_beams=B)`` gives the same.

Bias, penalties and grammar apply to each beam by its own tokens, before the softmax. Costs B
sequences of cache and compute.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from llmwright.inference.decoding.sampler import process
from llmwright.inference.decoding.search import Branch, Hypothesis
from llmwright.inference.decoding.state import SamplingState

EarlyStopping = bool | Literal["never"]


@dataclass(frozen=True, slots=True)
class Beam:
    """A live text: its last token and log-probability, and the beam it came from."""

    score: float = 0.0  # sum of the log-probabilities it was chosen by
    length: int = 0
    token: int = -1
    logprob: float = 0.0  # under the model's own distribution
    before: Beam | None = None
    state: SamplingState | None = None  # where bias, penalties or a grammar apply

    def hypothesis(self, score: float, ended: bool) -> Hypothesis:
        tokens, logprobs = [], []
        beam: Beam = self
        while beam.before is not None:
            tokens.append(beam.token)
            logprobs.append(beam.logprob)
            beam = beam.before
        reason: Literal["stop", "length"] = "stop" if ended else "length"
        return Hypothesis(tuple(tokens[::-1]), tuple(logprobs[::-1]), score, reason)


class BeamGroup:
    """The beams that compete with each other: all of them, or one group of diverse beams."""

    def __init__(
        self,
        size: int,
        *,
        ends: Collection[int],
        max_tokens: int,
        length_penalty: float = 1.0,
        early_stopping: EarlyStopping = False,
        state: SamplingState | None = None,
    ) -> None:
        self.size = size
        self.done = False
        self.live = [Beam(state=state)]
        self.said: list[int] = []  # tokens chosen in the last step, also those that ended a text
        self._finished: list[Hypothesis] = []  # at most ``size``, best first
        self._ends = frozenset(ends)
        self._max_tokens = max_tokens
        self._length_penalty = length_penalty
        self._early_stopping = early_stopping

    def advance(self, logits: Tensor, penalty: Tensor | None = None) -> list[Branch]:
        """One step on ``logits`` [live, vocab]; ``penalty`` [vocab] is taken from the scores by
        which extensions are chosen, not from those they keep."""
        live, vocab = logits.shape
        raw = logits.log_softmax(-1)  # [live, vocab]
        states = [beam.state for beam in self.live if beam.state is not None]
        logp = process(logits, states).log_softmax(-1) if states else raw
        total = logp + torch.tensor([[beam.score] for beam in self.live], device=logits.device)
        ranked = total if penalty is None else total - penalty
        wanted = max(2, 1 + len(self._ends)) * self.size
        places = ranked.flatten().topk(min(wanted, live * vocab)).indices  # over [live * vocab]
        chosen = zip(
            places.tolist(),
            total.flatten()[places].tolist(),
            raw.flatten()[places].tolist(),
            strict=True,
        )
        length = self.live[0].length + 1
        going: list[tuple[Branch, float, float]] = []
        self.said = []
        for rank, (place, score, logprob) in enumerate(chosen):
            if score == float("-inf"):  # forbidden: too few extensions are allowed
                continue
            branch = Branch(*divmod(place, vocab))
            ended = branch.token in self._ends
            if not ended and length < self._max_tokens:
                going.append((branch, score, logprob))
            elif rank < self.size:
                self.said.append(branch.token)
                beam = self._extend(branch, score, logprob)
                self._finished.append(beam.hypothesis(self._rate(score, length), ended))
        self._finished = sorted(self._finished, key=lambda h: -h.score)[: self.size]
        del going[self.size :]
        self.said += [branch.token for branch, _, _ in going]
        self.live = [self._extend(*extension) for extension in going]
        self.done = not self.live or self._cannot_improve(length)
        return [] if self.done else [branch for branch, _, _ in going]

    def results(self) -> list[Hypothesis]:
        """Finished texts; before any is, the live ones."""
        if self._finished:
            return self._finished
        return [b.hypothesis(self._rate(b.score, max(b.length, 1)), False) for b in self.live]

    def _rate(self, score: float, length: int) -> float:
        return float(score / length**self._length_penalty)

    def _extend(self, branch: Branch, score: float, logprob: float) -> Beam:
        parent = self.live[branch.parent]
        state = parent.state
        if state is not None:
            state = state.clone()
            state.advance(branch.token)
        return Beam(score, parent.length + 1, branch.token, logprob, parent, state)

    def _cannot_improve(self, length: int) -> bool:
        if len(self._finished) < self.size:
            return False
        if self._early_stopping is True:
            return True
        if self._early_stopping == "never" and self._length_penalty > 0:
            length = self._max_tokens
        return self._rate(self.live[0].score, length) <= self._finished[-1].score


class BeamSearch:
    """A ``Search`` with ``beams`` beams. ``state`` brings bias, penalties and grammar."""

    needs_hidden = False

    def __init__(
        self,
        beams: int,
        *,
        ends: Collection[int],
        max_tokens: int,
        length_penalty: float = 1.0,
        early_stopping: EarlyStopping = False,
        state: SamplingState | None = None,
    ) -> None:
        self.width = beams
        self._group = BeamGroup(
            beams,
            ends=ends,
            max_tokens=max_tokens,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            state=state,
        )

    def start(self, hidden: Tensor) -> None:
        """Beams do not look at hidden states."""

    def advance(self, logits: Tensor, hidden: Tensor | None = None) -> list[Branch]:
        """See ``Search``."""
        return self._group.advance(logits)

    def results(self) -> list[Hypothesis]:
        """See ``Search``."""
        return self._group.results()
