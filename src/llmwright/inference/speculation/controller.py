"""How many tokens to draft next, by what came of the drafts before.

Each sequence estimates its acceptance rate a from its own rounds, in which every accepted draft
is a success and the first rejected one a failure (what follows a rejection was never judged):

    a = (successes + 1) / (successes + failures + 2),   both counts fading by a factor a round

and drafts the k that maximises (1 - a^(k+1)) / ((1 - a)(k c + 1)) (``expected``). Where even the
best k gains less than 6%, it stops drafting, and probes again after a wait that doubles with every
probe that fails. So text that cannot be guessed costs a few tokens of drafts in all,
and text that can be guessed from some point on is noticed there.

The controller never looks at a clock: the ratio c (what one drafted token costs to draft and to
verify, in target steps) is told by the caller, and equal histories give equal lengths. (After
"dynamic speculation length", Mamou et al., 2024, arXiv 2405.04304, by another rule.)
"""

from __future__ import annotations

from llmwright.inference.speculation.expected import best_length, expected_speedup

_LONGEST = 16
_WORTH = 1.06  # least expected speed-up for which anything is drafted
_FADE = 0.9
_FIRST_WAIT, _LONGEST_WAIT = 8, 128
_PROBE = 2


class LengthController:
    """The draft length of one sequence, at most 16.

    >>> controller = LengthController()
    >>> [draft] = proposer.propose([Ask(key, token_ids, controller.next_length(cost=0.1))])
    >>> controller.update(len(draft.tokens), accepted)
    """

    def __init__(self) -> None:
        self._successes = self._failures = 0.0
        self._wait = _FIRST_WAIT  # rounds without drafts before the next probe
        self._idle = 0  # rounds since speculation was switched off or last probed

    @property
    def acceptance(self) -> float:
        """The present estimate of the acceptance rate."""
        return (self._successes + 1.0) / (self._successes + self._failures + 2.0)

    def next_length(self, cost: float) -> int:
        """Drafts to ask for in this round, of which each costs ``cost`` steps of the target; call
        it once a round. 0 is a plain step."""
        k = best_length(self.acceptance, cost, _LONGEST)
        if expected_speedup(self.acceptance, k, cost) >= _WORTH:
            return k
        self._idle += 1
        return _PROBE if self._idle >= self._wait else 0

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
