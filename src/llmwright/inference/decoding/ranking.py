"""What the truncation filters share: keeping the first tokens of a ranking.

Tokens are ranked by a falling key (the logit, or how typical they are), then by rising id. Filters
keep a prefix of that ranking, so k tokens are k and never more, where transformers keeps every
token that equals the last.

Finding a prefix by its mass needs no sort of the vocabulary, which costs tens of passes over it:
mostly the first 64 hold it. Where they don't, thresholds leave few candidates, and only those are
sorted; such rows are looked at one by one, since each narrows differently.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FIRST = 64  # so many keys are looked at before anything else
_FEW = 1024  # so many are sorted
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
    wanted = rows.sum(-1).double() * share.to(rows.device)  # [rows]
    values, ids = _ranked(keys, min(_FIRST, vocab))  # [rows, first]
    part = rows.gather(-1, ids).double()
    count = (part.cumsum(-1) - part < wanted[:, None]).sum(-1, keepdim=True).clamp_min(1)
    threshold = values.gather(-1, count - 1)  # [rows, 1]
    # Keys equal to the last one seen may go on behind it.
    for row in (threshold == values[:, -1:])[:, 0].nonzero()[:, 0].tolist():
        count[row], threshold[row] = _end(keys[row], rows[row], float(wanted[row]))
    return first_of(keys, count, threshold).view_as(key)


def _ranked(key: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest keys [rows, count] and their ids, in the order of the ranking."""
    ids = key.topk(count, sorted=False).indices.sort(-1).values
    values, order = key.gather(-1, ids).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(-1, order)


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
