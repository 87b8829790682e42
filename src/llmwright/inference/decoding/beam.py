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

from dataclasses import dataclass

import torch
from torch import Tensor

from llmwright.core import FinishReason
from llmwright.inference.decoding.sampler import process
from llmwright.inference.decoding.search import Branch, Hypothesis
from llmwright.inference.decoding.state import SamplingState


@dataclass(frozen=True, slots=True)
class Beam:
    """A live text: its last token and log-probability, and the beam it came from."""

    state: SamplingState
    score: float = 0.0  # sum of the log-probabilities it was chosen by
    token: int = -1
    logprob: float = 0.0  # under the model's own distribution
    before: Beam | None = None

    def hypothesis(self, score: float, ended: bool) -> Hypothesis:
        tokens, logprobs = [], []
        beam: Beam = self
        while beam.before is not None:
            tokens.append(beam.token)
            logprobs.append(beam.logprob)
            beam = beam.before
        reason: FinishReason = "stop" if ended else "length"
        return Hypothesis(tuple(tokens[::-1]), tuple(logprobs[::-1]), score, reason)


class BeamSearch:
    """A ``Search`` among beams that compete with each other: all of them, or one group of diverse
    beams. ``state`` is that of the prompt; its parameters say how many beams and how they end."""

    needs_hidden = False

    def __init__(self, state: SamplingState, max_tokens: int) -> None:
        self.width = state.params.num_beams // state.params.num_beam_groups
        self.done = False
        self.said: list[int] = []  # tokens chosen in the last step, also those that ended a text
        self._live = [Beam(state)]
        self._finished: list[Hypothesis] = []  # at most ``width``, best first
        self._params, self._ends = state.params, state.ends
        self._max_tokens = max_tokens

    def start(self, hidden: Tensor) -> None:
        """Beams do not look at hidden states."""

    def advance(
        self, logits: Tensor, hidden: Tensor | None = None, penalty: Tensor | None = None
    ) -> list[Branch]:
        """See ``Search``. ``penalty`` [vocab] is taken from the scores by which extensions are
        chosen, not from those they keep."""
        live, vocab = logits.shape
        raw = logits.log_softmax(-1)  # [live, vocab]
        changed = process(logits, [beam.state for beam in self._live])
        logp = raw if changed is logits else changed.log_softmax(-1)
        total = logp + torch.tensor([[beam.score] for beam in self._live], device=logits.device)
        ranked = total if penalty is None else total - penalty
        wanted = max(2, 1 + len(self._ends)) * self.width
        places = ranked.flatten().topk(min(wanted, live * vocab)).indices  # over [live * vocab]
        chosen = zip(
            places.tolist(),
            total.flatten()[places].tolist(),
            raw.flatten()[places].tolist(),
            strict=True,
        )
        length = self._live[0].state.produced + 1
        going: list[tuple[Branch, float, float]] = []
        self.said = []
        for rank, (place, score, logprob) in enumerate(chosen):
            if score == float("-inf"):  # forbidden: too few extensions are allowed
                continue
            branch = Branch(*divmod(place, vocab))
            ended = branch.token in self._ends
            if not ended and length < self._max_tokens:
                going.append((branch, score, logprob))
            elif rank < self.width:
                self.said.append(branch.token)
                beam = self._extend(branch, score, logprob)
                self._finished.append(beam.hypothesis(self._rate(score, length), ended))
        self._finished = sorted(self._finished, key=lambda h: -h.score)[: self.width]
        del going[self.width :]
        self.said += [branch.token for branch, _, _ in going]
        self._live = [self._extend(*extension) for extension in going]
        self.done = not self._live or self._cannot_improve(length)
        return [] if self.done else [branch for branch, _, _ in going]

    def results(self) -> list[Hypothesis]:
        """Finished texts; before any is, the live ones."""
        if self._finished:
            return self._finished
        length = max(self._live[0].state.produced, 1)
        return [beam.hypothesis(self._rate(beam.score, length), False) for beam in self._live]

    def _rate(self, score: float, length: int) -> float:
        return float(score / length**self._params.length_penalty)

    def _extend(self, branch: Branch, score: float, logprob: float) -> Beam:
        parent = self._live[branch.parent]
        state = parent.state.clone()
        state.advance(branch.token)
        return Beam(state, score, branch.token, logprob, parent)

    def _cannot_improve(self, length: int) -> bool:
        if len(self._finished) < self.width:
            return False
        if self._params.early_stopping is True:
            return True
        if self._params.early_stopping == "never" and self._params.length_penalty > 0:
            length = self._max_tokens
        return self._rate(self._live[0].score, length) <= self._finished[-1].score
