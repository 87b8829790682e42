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
    """All but the ``k`` largest of logits [..., vocab] set to -inf; ``k`` is at least 1, a number
    or int64 [..., 1]."""
    count = torch.as_tensor(k, device=logits.device).clamp_max(logits.shape[-1])
    count = count.expand(*logits.shape[:-1], 1)
    values = logits.topk(int(count.max())).values  # [..., most], falling
    kept = first_of(logits, count, values.gather(-1, count - 1))
    return logits.masked_fill(~kept, -torch.inf)
