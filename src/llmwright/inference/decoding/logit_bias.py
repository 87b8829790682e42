"""Logit bias: a number added to chosen tokens' logits, before everything else.

    z_i <- z_i + b_i

As in the OpenAI API: values from -100, which in effect forbids a token, to 100, which in effect
demands it. Costs what the number of biased tokens is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class LogitBias:
    """The biases of one request as tensors; made once, applied at every token."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        self.ids = torch.tensor(list(bias), dtype=torch.long)  # [n]
        self.values = torch.tensor(list(bias.values()), dtype=torch.float32)  # [n]

    def apply(self, row: Tensor) -> None:
        """Change logits [vocab] in place; ``check_tokens`` has seen that they have the ids."""
        row[self.ids.to(row.device)] += self.values.to(row.device)
