"""Log-probabilities of tokens and of their likeliest alternatives.

    log p_i = z_i - log sum_j exp(z_j)

always of the model's own distribution: before bias, penalties, temperature and filters, so that
figures from differently sampled answers compare. Costs one pass over the vocabulary, and a
partial selection where alternatives are asked for.
"""

from __future__ import annotations

from torch import Tensor

Top = tuple[tuple[int, float], ...]  # token ids with log-probabilities, best first


def logprob_of(logits: Tensor, token_ids: Tensor) -> Tensor:
    """log softmax of untempered logits [..., vocab] at ``token_ids`` [...]: shape [...]."""
    chosen = logits.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1)
    return chosen - logits.logsumexp(-1)


def top_alternatives(logits: Tensor, count: int) -> list[Top]:
    """The ``count`` likeliest tokens of each row of logits [rows, vocab]."""
    values, ids = logits.topk(min(count, logits.shape[-1]))  # both [rows, count]
    values = values - logits.logsumexp(-1, keepdim=True)
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    return [tuple(zip(row_ids, row, strict=True)) for row_ids, row in pairs]
