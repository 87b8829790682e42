"""Best-of-n: draw several answers, keep those the model itself holds most likely.

    rank answers y by  1/|y| sum_t log p(y_t | y_<t, x)

The mean, not the sum, or the shortest would win. The answers share the prompt's pass and cache;
each draws from its own random numbers (``SamplingState(..., index=i)``). Costs ``best_of``
sequences. (With a reward model in place of the mean this is the best-of-n of test-time compute,
guide page 23.)
"""

from __future__ import annotations

from collections.abc import Sequence


def rank_answers(logprobs: Sequence[Sequence[float]]) -> list[int]:
    """The places of answers, best first, from each one's token log-probabilities; of equals the
    first. An answer without tokens comes last."""

    def mean(answer: Sequence[float]) -> float:
        return sum(answer) / len(answer) if answer else float("-inf")

    return sorted(range(len(logprobs)), key=lambda place: -mean(logprobs[place]))
