"""The acceptance rule that keeps the target's distribution whatever the drafts are.

A draft x_i was drawn from q_i; the target gives p_i. In order of i:

    accept x_i with probability min(1, p_i(x_i) / q_i(x_i))
    at the first rejection draw from  norm(max(p_i - q_i, 0))  in its place, and stop
    after k acceptances draw a bonus token from p_(k+1)

so a token comes out with probability q(x) min(1, p(x)/q(x)) + P(reject) max(p(x) - q(x), 0) / Z
= min(p, q) + max(p - q, 0) = p(x), since P(reject) = Z. (Leviathan, Kalman, Matias, 2022, arXiv
2211.17192; Chen et al., 2023, arXiv 2302.01318.)

p and q must be warped alike (temperature, top-k, top-p). At temperature 0 both are one-hot, and
the rule says: keep the drafts that equal the target's argmax. Comparing argmaxes at any other
temperature, or accepting by softmax probabilities at temperature 0, changes the output.

Where a draft was certain to be proposed (q one-hot: n-grams, a greedy draft model) the rule is
carried out in another order: draw from p as plain decoding does, and go on while that is the
draft. It accepts with the same probability p(x), and what it draws otherwise follows p without
x, which is the residual. Done so, a seed gives the tokens that it gives without speculation.

Costs one pass over [k, vocab]; sums are taken in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmwright.inference import decoding
from llmwright.inference.speculation.proposer import Draft


def verify(p: Tensor, draft: Draft, generator: torch.Generator | None) -> tuple[list[int], int]:
    """The tokens of one round, and how many of the drafts are among them.

    ``p`` [k + 1, vocab] are the target's warped probabilities after 0 to k drafts. Gives one to
    ``k + 1`` tokens: accepted drafts, then the one drawn in place of a rejected draft or as bonus.
    """
    tokens, accepted = accept(p, draft, generator)
    if accepted == len(draft.tokens):
        tokens.append(draw(p[accepted], generator))
    return tokens, accepted


def accept(p: Tensor, draft: Draft, generator: torch.Generator | None) -> tuple[list[int], int]:
    """``verify`` without the bonus: ``p`` [k or more, vocab], and k tokens after k acceptances."""
    q = draft.probabilities
    if q is None:
        return _accept_certain(p, draft.tokens, generator)
    count = len(draft.tokens)
    rows = torch.arange(count)
    ids = torch.tensor(draft.tokens, dtype=torch.long)
    keep = keep_probability(p[rows, ids], q[rows, ids]).cpu()  # [k]
    kept = torch.rand(count, dtype=torch.float64, generator=generator) < keep  # of [0, 1)
    accepted = int(kept.long().cumprod(0).sum())
    tokens = list(draft.tokens[:accepted])
    if accepted < count:
        tokens.append(draw(residual(p[accepted], q[accepted]), generator))
    return tokens, accepted


def _accept_certain(
    p: Tensor, drafted: Sequence[int], generator: torch.Generator | None
) -> tuple[list[int], int]:
    tokens: list[int] = []
    for row, token in zip(p, drafted, strict=False):
        tokens.append(draw(row, generator))
        if tokens[-1] != token:
            return tokens, len(tokens) - 1
    return tokens, len(tokens)


def keep_probability(p_x: Tensor, q_x: Tensor) -> Tensor:
    """min(1, p(x) / q(x)) of drafts x; q(x) is above 0, or they could not have been drawn."""
    return (p_x.double() / q_x.double()).clamp_max(1.0)


def residual(p: Tensor, q: Tensor) -> Tensor:
    """norm(max(p - q, 0)) [vocab], what a rejected draft is replaced from."""
    target = p.double()
    rest = (target - q.double()).clamp_min(0.0)
    mass = rest.sum()
    # Nothing left means p = q but for rounding; a rejection then has no mass to speak of.
    return rest / mass if float(mass) > 0.0 else target


def draw(weights: Tensor, generator: torch.Generator | None) -> int:
    """A token id with probability proportional to ``weights`` [vocab], by one uniform number and
    as ``decoding.choose`` draws it."""
    uniform = torch.rand(1, dtype=torch.float64, generator=generator)
    return int(decoding.draw(weights[None], uniform.to(weights.device)))


def verify_greedy(best: Sequence[int], drafted: Sequence[int]) -> tuple[list[int], int]:
    """``verify`` at temperature 0, where ``best`` [k + 1] are the argmaxes of the target."""
    accepted = 0
    while accepted < len(drafted) and drafted[accepted] == best[accepted]:
        accepted += 1
    return list(best[: accepted + 1]), accepted
