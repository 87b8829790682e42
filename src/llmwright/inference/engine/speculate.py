"""Speculation in the engine: who drafts how much, and what it costs.

Before each pass every sequence that answers may get drafts from the proposer, as many as its own
``LengthController`` says. What a drafted token costs is measured: the time of a pass grows
with its tokens, ``seconds = base + tokens * each``, fitted over the recent passes that only
answered; with n sequences in a pass, a token costs ``each`` and an undrafted step of one sequence
``(base + n * each) / n``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from llmwright.inference.engine.request import Request, Sequence
from llmwright.inference.speculation import Ask, LengthController, Proposer

_RECENT = 64


class StepCost:
    """Least squares over the recent passes."""

    def __init__(self) -> None:
        self._passes: deque[tuple[int, float]] = deque(maxlen=_RECENT)

    def add(self, tokens: int, seconds: float) -> None:
        """A pass that computed ``tokens`` tokens, prompts not among them."""
        self._passes.append((tokens, seconds))

    def of_draft(self, sequences: int, default: float = 0.15) -> float:
        """One more drafted token, in plain steps of a sequence when ``sequences`` answer."""
        n = len(self._passes)
        if n < 8:
            return default
        mean_x = sum(x for x, _ in self._passes) / n
        mean_y = sum(y for _, y in self._passes) / n
        spread = sum((x - mean_x) ** 2 for x, _ in self._passes)
        if not spread:
            return default
        each = sum((x - mean_x) * (y - mean_y) for x, y in self._passes) / spread
        each = min(max(each, 0.02 * mean_y / mean_x), mean_y / mean_x)
        base = max(mean_y - each * mean_x, 0.0)
        return each * sequences / (base + each * sequences)


class Speculator:
    """Gives drafts to sequences and learns from what came of them."""

    def __init__(self, proposer: Proposer, longest: int = 8) -> None:
        self._proposer = proposer
        self._longest = longest
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
            controller = self._controllers.get(sequence)
            if controller is None:
                controller = LengthController(cost, self._longest)
                self._controllers[sequence] = controller
            controller.cost = cost
            room = sequence.request.limit - len(sequence.tokens) - 1
            length = min(controller.next_length(), room)
            if length > 0:
                asking.append(sequence)
                asks.append(Ask(id(sequence), sequence.tokens, length, sequence.state))
        for sequence, draft in zip(asking, self._proposer.propose_all(asks), strict=True):
            sequence.draft = draft if draft.tokens else None

    def settle(self, sequence: Sequence, drafted: int, accepted: int) -> None:
        """Learn how many of a sequence's drafts were kept."""
        if sequence in self._controllers:
            self._controllers[sequence].update(drafted, accepted)

    def forget(self, sequence: Sequence) -> None:
        """Free what is kept of a sequence that ended."""
        if self._controllers.pop(sequence, None) is not None:
            self._proposer.forget(id(sequence))
