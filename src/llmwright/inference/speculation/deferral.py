"""Who decides the next token, the small model q or the large one p: deferral rules.

A rule gives r, 1 where the token is left to the large model ("deferred") and 0 where the small
one's is good enough, with a tolerance a from 0 (strict) to 1:

    chow     r = 1  where  max q < 1 - a                   (needs no p: Chow, 1970)
    diff     r = 1  where  max q < max p - a
    opt      r = 1  where  max q < max p - a TV(p, q)      TV = 1 - sum_x min(p, q)
    token    r(x) = 1  where  p(x) < (1 - a) max p         (for each token x its own)

opt is the plug-in form of the optimal rule: TV is the rate at which drafts of q would be rejected
by p, so it defers where that is cheap. ``token`` is the third of the paper's token rules, which
keeps those of the small model's tokens that the large one likes nearly as well as its best. The
distribution to sample from is then

    pi(x) = (1 - r(x)) q(x) + p(x) sum_y r(y) q(y)

which is q or p where r does not depend on x. With a = 1 no rule defers and pi is q; a = 0 still
keeps a small model that is at least as sure as the large one (diff, opt) or its share of the large
model's best token (token), so only the rule ``always`` gives p everywhere.

Rules look at probabilities before temperature and filters; pi mixes those after. So at
temperature 0, where warped p and q are one-hot, confidences still mean something.

(Narasimhan, Jitkrittum, Rawat, Kim, Gupta, Menon, Kumar, "Faster Cascades via Speculative
Decoding", 2024, arXiv 2405.19261.) Costs a few passes over the vocabulary a token.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from llmwright.inference.speculation.expected import acceptance_rate

Rule = Callable[[Tensor, Tensor, float], Tensor]
"""Untempered p, q [..., vocab] and the tolerance -> r, [..., 1] or [..., vocab], of 0 and 1."""


def chow(p: Tensor, q: Tensor, tolerance: float) -> Tensor:
    """Defer where the small model is unsure."""
    return (q.amax(-1, keepdim=True) < 1.0 - tolerance).to(q)


def diff(p: Tensor, q: Tensor, tolerance: float) -> Tensor:
    """Defer where the large model is surer than the small one by more than ``tolerance``."""
    return (q.amax(-1, keepdim=True) < p.amax(-1, keepdim=True) - tolerance).to(q)


def opt(p: Tensor, q: Tensor, tolerance: float) -> Tensor:
    """``diff``, with a tolerance that grows with how often deferring would reject a draft."""
    distance = 1.0 - acceptance_rate(p, q).unsqueeze(-1)  # [..., 1], total variation
    return (q.amax(-1, keepdim=True) < p.amax(-1, keepdim=True) - tolerance * distance).to(q)


def token_specific(p: Tensor, q: Tensor, tolerance: float) -> Tensor:
    """Defer the tokens that the large model finds much less likely than its best."""
    return (p < (1.0 - tolerance) * p.amax(-1, keepdim=True)).to(q)


def always(p: Tensor, q: Tensor, tolerance: float) -> Tensor:
    """Defer everything: pi is p, and a speculative cascade is speculative decoding."""
    return q.new_ones(*q.shape[:-1], 1)


RULES: dict[str, Rule] = {
    "chow": chow, "diff": diff, "opt": opt, "token": token_specific, "always": always,
}  # fmt: skip


def target_distribution(p: Tensor, q: Tensor, defer: Tensor) -> Tensor:
    """pi [..., vocab] from warped p, q [..., vocab] and r [..., 1 or vocab]."""
    passed_on = (defer * q).sum(-1, keepdim=True)  # [..., 1], mass of q that p hands out anew
    return (1.0 - defer) * q + passed_on * p
