"""What the truncation filters share: keeping the first tokens of a ranking.

Tokens are ranked by falling logit, then by rising id. Filters keep a prefix of that ranking, so
k tokens are k and never more, where transformers keeps every token that equals the last.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Filters look at so many of the largest logits before they sort a vocabulary.
HEAD = 1024


def keep_first(logits: Tensor, count: Tensor, threshold: Tensor) -> Tensor:
    """Keep the first ``count`` tokens of the ranking, of which ``threshold`` is the last's logit.

    Shapes: logits [..., vocab]; count and threshold [..., 1].
    """
    kept = logits >= threshold
    if bool((kept.sum(-1, keepdim=True) > count).any()):  # ties at the threshold
        above = logits > threshold
        room = count - above.sum(-1, keepdim=True)  # [..., 1]
        kept = above | (kept & ((kept & ~above).cumsum(-1) <= room))
    return logits.masked_fill(~kept, -torch.inf)
