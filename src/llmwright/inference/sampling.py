"""Choosing the next token from its logits.

Order of the filters, as in transformers and vLLM:

    temperature:  z_i <- z_i / T
    top-k:        keep the k largest z_i
    top-p:        p = softmax(z); keep the smallest set of most probable tokens with mass >= p
    draw:         token ~ softmax(z over the kept)

(llama.cpp applies the temperature last, which keeps other tokens: for logits [3, 2, 1], p = 0.8
and T = 0.5 the order here keeps {0}, that order {0, 1}.) Temperature 0 is the argmax, and among
equal logits the lowest id.

Ties: tokens are ranked by falling logit, then by rising id, and both filters keep a prefix of
that ranking. So top-k keeps k tokens and never more, where transformers keeps every token that
equals the k-th. The token whose mass crosses p is kept, so at least one always is.

Top-k: Fan, Lewis, Dauphin, "Hierarchical Neural Story Generation", 2018, arXiv 1805.04833.
Top-p: Holtzman, Buys, Du, Forbes, Choi, "The Curious Case of Neural Text Degeneration", 2020,
arXiv 1904.09751.

Costs a few passes over the vocabulary a token. Top-p looks at the 1,024 largest logits first and
sorts the whole vocabulary (tens of times dearer) only where those do not hold the mass p.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmwright.core import SamplingParams

_HEAD = 1024


def _keep_first(logits: Tensor, count: Tensor, threshold: Tensor) -> Tensor:
    """Keep the first ``count`` tokens of the ranking, of which ``threshold`` is the last's logit.

    Shapes: logits [..., vocab]; count and threshold [..., 1].
    """
    above = logits > threshold
    tied = logits == threshold
    room = count - above.sum(-1, keepdim=True)  # [..., 1]
    return logits.masked_fill(~(above | (tied & (tied.cumsum(-1) <= room))), -torch.inf)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """All but the ``k`` largest of logits [..., vocab] set to -inf; ``k=0`` keeps all."""
    if k == 0 or k >= logits.shape[-1]:
        return logits
    threshold = logits.topk(k).values[..., -1:]  # [..., 1]
    return _keep_first(logits, torch.full_like(threshold, k, dtype=torch.long), threshold)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """All but the most probable tokens that together reach mass ``p`` set to -inf.

    A token stays while the mass of those ranked before it is below ``p``: the token that
    crosses stays, and the first always. ``p=1`` keeps all. Shape [..., vocab].
    """
    if p >= 1.0:
        return logits
    # Weights against p times their total, not divided by it: equal logits then add up exactly.
    top = logits.amax(-1, keepdim=True)  # [..., 1]
    wanted = p * (logits - top).double().exp().sum(-1, keepdim=True)  # [..., 1]
    values = logits.topk(min(_HEAD, logits.shape[-1])).values  # [..., head], falling
    weights = (values - top).double().exp()
    if bool((weights.sum(-1, keepdim=True) <= wanted).any()):  # flat: the head does not reach p
        values = logits.sort(dim=-1, descending=True).values
        weights = (values - top).double().exp()
    before = weights.cumsum(-1) - weights
    count = (before < wanted).sum(-1, keepdim=True).clamp_min(1)  # [..., 1]
    return _keep_first(logits, count, values.gather(-1, count - 1))


def next_token_distribution(logits: Tensor, params: SamplingParams) -> Tensor:
    """Probabilities [..., vocab] that ``params`` draw from; one-hot at temperature 0."""
    if params.temperature == 0.0:
        best = logits.argmax(-1, keepdim=True)  # [..., 1]
        return torch.zeros_like(logits).scatter(-1, best, 1.0)
    # Logits up to 1e38 divided by 1e-30 are infinite, and inf - inf is no number: shift first.
    logits = logits - logits.amax(-1, keepdim=True)
    kept = keep_top_p(keep_top_k(logits / params.temperature, params.top_k), params.top_p)
    return kept.softmax(-1)


def sample(logits: Tensor, params: SamplingParams, generator: torch.Generator | None = None) -> int:
    """Draw one token id from logits [vocab].

    The draw inverts the cumulative distribution at one uniform number, so a request uses
    exactly one number of its generator a token, whatever the filters left.
    """
    if params.temperature == 0.0:
        return int(logits.argmax())
    cumulative = next_token_distribution(logits, params).double().cumsum(0)  # [vocab]
    point = torch.rand((), dtype=torch.float64, generator=generator) * cumulative[-1]
    # The first id whose cumulative mass exceeds the point; an id of mass 0 never does first.
    return int(torch.searchsorted(cumulative, point, right=True))


def logprob_of(logits: Tensor, token_ids: Tensor) -> Tensor:
    """log softmax of untempered logits [..., vocab] at ``token_ids`` [...]: shape [...]."""
    chosen = logits.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1)
    return chosen - logits.logsumexp(-1)
