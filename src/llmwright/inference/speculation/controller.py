"""How many tokens to draft next, by what came of the drafts before.

Each sequence estimates its acceptance rate a from its own rounds, in which every accepted draft
is a success and the first rejected one a failure (what follows a rejection was never judged):

    a = (successes + 1) / (successes + failures + 2),   both counts fading by a factor a round

and drafts the k that maximises (1 - a^(k+1)) / ((1 - a)(k c + 1)) (``expected``). Where even the
best k gains less than ``worth``, it stops drafting, and probes again after a wait that doubles
with every probe that fails. So text that cannot be guessed costs a few tokens of drafts in all,
and text that can be guessed from some point on is noticed there.

The controller never looks at a clock: the ratio c (what one drafted token costs to draft and to
verify, in target steps) is told by the caller, and equal histories give equal lengths. (After
"dynamic speculation length", Mamou et al., 2024, arXiv 2405.04304, by another rule.)
"""

from __future__ import annotations

from llmwright.core import ConfigurationError
from llmwright.inference.speculation.expected import best_length, expected_speedup

_FADE = 0.9
_FIRST_WAIT, _LONGEST_WAIT = 8, 128
_PROBE = 2


class LengthController:
    """The draft length of one sequence.

    >>> controller = LengthController(cost=0.1, longest=8)
    >>> draft = proposer.propose(key, token_ids, controller.next_length())
    >>> controller.update(len(draft.tokens), accepted)
    """

    def __init__(self, cost: float = 0.1, longest: int = 8, worth: float = 1.06) -> None:
        if longest < 1:
            raise ConfigurationError(
                f"a longest draft of {longest} tokens", where="longest", fix="give 1 or more"
            )
        self.longest = longest
        self.worth = worth
        self._cost = 0.0
        self.cost = cost
        self._successes = self._failures = 0.0
        self._wait = _FIRST_WAIT  # rounds without drafts before the next probe
        self._idle = 0  # rounds since speculation was switched off or last probed

    @property
    def cost(self) -> float:
        """What a drafted token costs, in steps of the target; may be set at any time."""
        return self._cost

    @cost.setter
    def cost(self, value: float) -> None:
        if not value >= 0.0:
            raise ConfigurationError(
                f"a drafted token that costs {value} steps", where="cost", fix="give 0 or more"
            )
        self._cost = value

    @property
    def acceptance(self) -> float:
        """The present estimate of the acceptance rate."""
        return (self._successes + 1.0) / (self._successes + self._failures + 2.0)

    def next_length(self) -> int:
        """Drafts to ask for in this round; call it once a round. 0 is a plain step."""
        k = best_length(self.acceptance, self.cost, self.longest)
        if k and expected_speedup(self.acceptance, k, self.cost) >= self.worth:
            return k
        self._idle += 1
        return min(_PROBE, self.longest) if self._idle >= self._wait else 0

    def update(self, drafted: int, accepted: int) -> None:
        """Learn from a round. A round in which nothing was proposed teaches nothing, so a probe
        that found nothing to propose is asked for again."""
        if not drafted:
            return
        self._successes = _FADE * self._successes + accepted
        self._failures = _FADE * self._failures + (accepted < drafted)
        if self._idle:
            self._idle = 0
            self._wait = _FIRST_WAIT if accepted == drafted else min(2 * self._wait, _LONGEST_WAIT)
