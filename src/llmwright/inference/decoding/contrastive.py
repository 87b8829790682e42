"""Contrastive search: a probable token whose hidden state is not like one before.

    candidates: the k most probable tokens v
    choose     argmax_v (1 - a) p(v | x) - a max_j cos(h_v, h_j)

with h_v the hidden state at v, were v next, and h_j those of all tokens before, the prompt's
included. Su, Lan, Wang, Yogatama, Kong, Collier, "A Contrastive Framework for Neural Text
Generation", 2022, arXiv 2202.06417. a = 0 is greedy.

h_v is known only after the model has read v. So the live branches are the k candidates, the same
text each with another last token: ``advance`` chooses one of them by the hidden states it is
given, and from the logits that stand behind the chosen one come the next k. One pass over k rows
a token, and one float a hidden dimension and token of memory.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from llmwright.core import FinishReason
from llmwright.inference.decoding.sampler import process
from llmwright.inference.decoding.search import Branch, Hypothesis
from llmwright.inference.decoding.state import SamplingState


class ContrastiveSearch:
    """A ``Search`` that gives one answer. ``state`` is that of the prompt; of its parameters
    ``top_k`` is how many candidates there are and ``penalty_alpha`` the a."""

    needs_hidden = True

    def __init__(self, state: SamplingState, max_tokens: int) -> None:
        self.width = state.params.top_k
        self._alpha = state.params.penalty_alpha
        self._max_tokens = max_tokens
        self._state = state
        self._seen: Tensor | None = None  # unit hidden states [capacity, hidden]
        self._length = 0  # of them
        self._candidates: list[tuple[int, float]] = []  # token, log-probability
        self._probabilities = torch.empty(0)  # [k], what they are weighed by
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self._score = 0.0
        self._reason: FinishReason = "length"

    def start(self, hidden: Tensor) -> None:
        """Remember the prompt: hidden states [time, hidden]."""
        self._seen = F.normalize(hidden.float(), dim=-1)
        self._length = len(hidden)

    def advance(self, logits: Tensor, hidden: Tensor | None = None) -> list[Branch]:
        """Choose among the candidates, then name the next; see ``Search``."""
        if self._seen is None or hidden is None:
            raise ValueError("contrastive search needs hidden states, the prompt's first")
        if not self._candidates:  # behind the prompt there is nothing to choose yet
            return self._propose(0, logits[0])
        units = F.normalize(hidden.float(), dim=-1)  # [k, hidden]
        likeness = (units @ self._seen[: self._length].T).amax(-1)  # [k]
        scores = (1 - self._alpha) * self._probabilities - self._alpha * likeness
        best = int(scores.argmax())
        token, logprob = self._candidates[best]
        self._tokens.append(token)
        self._logprobs.append(logprob)
        self._score += float(scores[best])
        self._state.advance(token)
        if self._state.is_end(token):
            self._reason = "stop"
            return []
        if len(self._tokens) == self._max_tokens:
            return []
        self._remember(units[best])
        return self._propose(best, logits[best])

    def results(self) -> list[Hypothesis]:
        """The one answer; its score is the mean of what its tokens were chosen by."""
        mean = self._score / max(len(self._tokens), 1)
        return [Hypothesis(tuple(self._tokens), tuple(self._logprobs), mean, self._reason)]

    def _propose(self, parent: int, logits: Tensor) -> list[Branch]:
        allowed = process(logits[None], [self._state])[0]
        p, ids = allowed.softmax(-1).topk(min(self.width, len(logits)))  # both [k]
        p, ids = p[p > 0], ids[p > 0]  # a grammar may leave fewer
        self._probabilities = p
        logprobs = logits.log_softmax(-1)[ids]
        self._candidates = list(zip(ids.tolist(), logprobs.tolist(), strict=True))
        return [Branch(parent, token) for token, _ in self._candidates]

    def _remember(self, unit: Tensor) -> None:
        assert self._seen is not None
        if self._length == len(self._seen):
            self._seen = torch.cat([self._seen, torch.empty_like(self._seen)])
        self._seen[self._length] = unit
        self._length += 1
