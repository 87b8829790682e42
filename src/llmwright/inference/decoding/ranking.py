"""What the truncation filters share: keeping the first tokens of a ranking.

Tokens are ranked by a falling key (the logit, or how typical they are), then by rising id. Filters
keep a prefix of that ranking, so k tokens are k and never more, where transformers keeps every
token that equals the last.

Finding a prefix by its mass needs no sort of the vocabulary, which costs tens of passes over it:
a threshold leaves few candidates, and only those are sorted. Rows are looked at one by one, since
each narrows differently, and so none depends on its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FEW = 1024  # so many keys are sorted
_REACH = 8.0  # nats below the best key at which a row is first cut: e^-8 of the best weight
_CUTS = 40


def first_of(key: Tensor, count: Tensor, threshold: Tensor) -> Tensor:
    """The first ``count`` tokens of the ranking, of which ``threshold`` is the last's key: a mask.

    Shapes: key [..., vocab]; count and threshold [..., 1].
    """
    kept = key >= threshold
    extra = kept.count_nonzero(dim=-1) - count[..., 0]  # [...]
    for row in extra.nonzero().tolist():  # ties at the threshold: the highest ids go
        place = tuple(row)
        tied = (key[place] == threshold[place]).nonzero()[:, 0]
        kept[(*place, tied[len(tied) - int(extra[place]) :])] = False
    return kept


def reaching(key: Tensor, weights: Tensor, mass: float | Tensor) -> Tensor:
    """The shortest prefix of the ranking whose weights reach ``mass`` times their total: a mask.

    The token that crosses it belongs to it, and one always does. Shapes: key and weights
    [..., vocab], mass a number or [..., 1]. Weights need not add up to 1: undivided, equal ones
    add up exactly.
    """
    vocab = key.shape[-1]
    keys, rows = key.reshape(-1, vocab), weights.reshape(-1, vocab)
    share = torch.as_tensor(mass, dtype=torch.float64).expand(*key.shape[:-1], 1).reshape(-1)
    wanted = (rows.sum(-1).double().cpu() * share.cpu()).tolist()
    ends = [_end(*row) for row in zip(keys, rows, wanted, strict=True)]
    count = torch.tensor([n for n, _ in ends], device=key.device)[:, None]
    threshold = torch.tensor([at for _, at in ends], dtype=key.dtype, device=key.device)[:, None]
    return first_of(keys, count, threshold).view_as(key)


def _end(key: Tensor, weights: Tensor, wanted: float) -> tuple[int, float]:
    """Length of the prefix that reaches ``wanted``, and the last key in it; all [vocab]."""
    skipped, base = 0, 0.0  # tokens that surely belong to it and were cut away, and their mass
    high = float(key.max())
    low, middle = -torch.inf, high - _REACH
    for _ in range(_CUTS):
        if len(key) <= _FEW:
            break
        above = key > middle
        upper = weights[above]
        total = base + float(upper.sum())
        if total >= wanted:  # the end lies above
            key, weights, low = key[above], upper, middle
        else:
            skipped, base, high = skipped + len(upper), total, middle
            key, weights = key[~above], weights[~above]
        if low == -torch.inf:
            finite = key[key > -torch.inf]
            low = float(finite.min()) - 1.0 if len(finite) else high
        middle = low + (high - low) / 2
    key, order = key.sort(stable=True, descending=True)
    part = weights[order].double()
    before = base + part.cumsum(0) - part  # the mass ranked before each
    inside = max(1, int(((before < wanted) & (part > 0)).sum()))
    return skipped + inside, float(key[inside - 1])
