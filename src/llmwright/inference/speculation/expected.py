"""What speculation is expected to give, before it is tried.

With acceptance rate a (the mean over positions of sum_x min(p(x), q(x)), positions taken as
independent), drafts of k tokens, and a drafted token costing c target steps:

    tokens a round   E(a, k) = 1 + a + ... + a^k = (1 - a^(k+1)) / (1 - a)
    speed-up         S(a, k, c) = E(a, k) / (k c + 1)

Example: a = 0.8, k = 5 give 3.689 tokens, and a speed-up of 2.951 at c = 0.05.

(Leviathan, Kalman, Matias, "Fast Inference from Transformers via Speculative Decoding", 2022,
arXiv 2211.17192.) The paper takes c as the time of one draft step over one target step, and
verifying k + 1 tokens as dear as one. On a processor it is not: a pass over n tokens costs
1 + (n - 1) v steps, so here c is the sum of the draft's cost and of v.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmwright.core import ConfigurationError


def expected_tokens(acceptance: float, length: int) -> float:
    """Mean number of tokens of one round of ``length`` drafts, from 1 to ``length + 1``.

    Raises ``ConfigurationError`` where ``acceptance`` is no probability or ``length`` negative.
    """
    if not 0.0 <= acceptance <= 1.0:
        raise ConfigurationError(
            f"an acceptance rate of {acceptance}", where="acceptance", fix="give one from 0 to 1"
        )
    if length < 0:
        raise ConfigurationError(
            f"a draft of {length} tokens", where="length", fix="give 0 (no draft) or more"
        )
    tokens = 1.0
    for _ in range(length):  # Horner's form is exact at a = 1, where the fraction is 0 / 0
        tokens = 1.0 + acceptance * tokens
    return tokens


def expected_speedup(acceptance: float, length: int, cost: float) -> float:
    """Tokens per second over those of plain decoding, ``cost`` target steps a drafted token."""
    return expected_tokens(acceptance, length) / (length * cost + 1.0)


def best_length(acceptance: float, cost: float, longest: int) -> int:
    """The draft length from 0 to ``longest`` of the largest expected speed-up, the shortest
    among equals."""
    return max(range(longest + 1), key=lambda k: (expected_speedup(acceptance, k, cost), -k))


def acceptance_rate(p: Tensor, q: Tensor) -> Tensor:
    """sum_x min(p(x), q(x)) = 1 - TV(p, q): the probability that a draft from ``q`` is kept.

    p, q [..., vocab] -> [...].
    """
    return torch.minimum(p, q).sum(-1)
