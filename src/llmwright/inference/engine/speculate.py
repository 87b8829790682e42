"""Speculation in the engine: who drafts how much, and what it costs.

Before each pass every sequence that answers may get drafts from the proposer, as many as its own
``LengthController`` says; others in the batch go on without. What a drafted token costs is
measured. The time of a pass grows with its tokens, ``seconds = base + tokens * each``, fitted over
the recent passes that only answered; drafting takes ``drafting`` seconds a token. With n
sequences in a pass a plain token costs ``(base + n * each) / n``, so in such units a draft costs

    c = n (each + drafting) / (base + n * each)

which grows with n: speculation uses what a small batch leaves idle, and ends where a large one
leaves nothing.

Drafts of a request with a seed are never drawn, only the likeliest tokens: how many are drafted
depends on measured times, and must not decide which random numbers the answer gets.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from llmwright.inference.engine.request import Request, Sequence
from llmwright.inference.speculation import Ask, LengthController, Proposer

_RECENT = 64
_ENOUGH = 8
_LEAST = 0.06
"""The least that a token more is taken to cost: noise must not make drafts look free."""
_SHARE = 0.15
"""What a token more costs of a pass with one, until it can be told from passes of several sizes."""


class StepCost:
    """Least squares over the recent passes, and the mean time of a drafted token."""

    def __init__(self) -> None:
        self._passes: deque[tuple[int, float]] = deque(maxlen=_RECENT)
        self._drafts: deque[tuple[int, float]] = deque(maxlen=_RECENT)

    def add(self, tokens: int, seconds: float) -> None:
        """A pass that computed ``tokens`` tokens, prompts not among them."""
        self._passes.append((tokens, seconds))

    def add_drafts(self, tokens: int, seconds: float) -> None:
        """A call of the proposer that gave ``tokens`` tokens to all sequences together."""
        self._drafts.append((tokens, seconds))

    def of_draft(self, sequences: int) -> float:
        """One more drafted token, in plain steps of a sequence when ``sequences`` answer."""
        passes, drafts = list(self._passes), list(self._drafts)  # other threads may ask
        n = len(passes)
        if n < _ENOUGH:
            return _SHARE
        mean_x = sum(x for x, _ in passes) / n
        mean_y = sum(y for _, y in passes) / n
        spread = sum((x - mean_x) ** 2 for x, _ in passes)
        each = _SHARE * mean_y / mean_x
        if spread:
            each = sum((x - mean_x) * (y - mean_y) for x, y in passes) / spread
            each = min(max(each, _LEAST * mean_y / mean_x), mean_y / mean_x)
        base = max(mean_y - each * mean_x, 0.0)
        drafted = sum(tokens for tokens, _ in drafts)
        drafting = sum(seconds for _, seconds in drafts) / max(drafted, 1)
        return sequences * (each + drafting) / (base + each * sequences)


class Speculator:
    """Gives drafts to sequences and learns from what came of them."""

    def __init__(self, proposer: Proposer) -> None:
        self._proposer = proposer
        self._controllers: dict[Sequence, LengthController] = {}
        self.cost = StepCost()

    def propose(self, requests: Iterable[Request]) -> None:
        """Draft for every sequence that answers and has room for more than one token."""
        answering = [
            sequence
            for request in requests
            if request.search is None
            for sequence in request.sequences
            if sequence.pending == 1 and sequence.draft is None and sequence.chosen
        ]
        cost = self.cost.of_draft(max(len(answering), 1))
        asks, asking = [], []
        for sequence in answering:
            controller = self._controllers.setdefault(sequence, LengthController())
            room = sequence.request.limit - len(sequence.tokens) - 1
            length = min(controller.next_length(cost), room)
            if length > 0:
                asking.append(sequence)
                seeded = sequence.state.generator is not None and (
                    sequence.request.params.seed is not None
                )
                state = None if seeded else sequence.state
                asks.append(Ask(id(sequence), sequence.tokens, length, state))
        if not asks:
            return
        began = time.perf_counter()
        drafts = self._proposer.propose(asks)
        proposed = sum(len(draft.tokens) for draft in drafts)
        if proposed:
            self.cost.add_drafts(proposed, time.perf_counter() - began)
        for sequence, draft in zip(asking, drafts, strict=True):
            sequence.draft = draft if draft.tokens else None

    def settle(self, sequence: Sequence, drafted: int, accepted: int) -> None:
        """Learn how many of a sequence's drafts were kept."""
        if sequence in self._controllers:
            self._controllers[sequence].update(drafted, accepted)

    def forget(self, sequence: Sequence) -> None:
        """Free what is kept of a sequence that ended."""
        if self._controllers.pop(sequence, None) is not None:
            self._proposer.forget(id(sequence))
