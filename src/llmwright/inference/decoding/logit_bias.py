"""Logit bias: a number added to chosen tokens' logits, before everything else.

    z_i <- z_i + b_i

As in the OpenAI API: values from -100, which in effect forbids a token, to 100, which in effect
demands it. Costs what the number of biased tokens is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmwright.core import InputError


class LogitBias:
    """The biases of one request as tensors; made once, applied at every token."""

    def __init__(self, pairs: Sequence[tuple[int, float]]) -> None:
        self.ids = torch.tensor([token for token, _ in pairs], dtype=torch.long)  # [n]
        self.values = torch.tensor([value for _, value in pairs], dtype=torch.float32)

    def apply(self, row: Tensor) -> None:
        """Change logits [vocab] in place. Raises ``InputError`` for tokens beyond them."""
        if int(self.ids.max()) >= len(row):
            raise InputError(
                f"logit_bias names token {int(self.ids.max())}",
                where="sampling parameters",
                fix=f"this model's tokens run from 0 to {len(row) - 1}",
            )
        row[self.ids.to(row.device)] += self.values.to(row.device)
