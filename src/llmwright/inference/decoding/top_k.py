"""Top-k: only the k most probable tokens.

    keep the k largest z_i

Fan, Lewis, Dauphin, "Hierarchical Neural Story Generation", 2018, arXiv 1805.04833. Costs one
partial selection over the vocabulary. Among equal logits the lower ids stay (see ``ranking``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmwright.inference.decoding.ranking import first_of


def keep_top_k(logits: Tensor, k: int | Tensor) -> Tensor:
    """All but the ``k`` largest of logits [..., vocab] set to -inf; ``k=0`` keeps all.

    ``k`` may be int64 [..., 1], one for each row, each at least 1.
    """
    vocab = logits.shape[-1]
    if isinstance(k, Tensor):
        count = k.clamp_max(vocab)  # [..., 1]
        values = logits.topk(int(count.max())).values  # [..., most], falling
        kept = first_of(logits, count, values.gather(-1, count - 1))
        return logits.masked_fill(~kept, -torch.inf)
    if k == 0 or k >= vocab:
        return logits
    threshold = logits.topk(k).values[..., -1:]  # [..., 1]
    kept = first_of(logits, torch.full_like(threshold, k, dtype=torch.long), threshold)
    return logits.masked_fill(~kept, -torch.inf)
