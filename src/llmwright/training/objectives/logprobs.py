"""Log-probabilities of given tokens without ever holding the logits.

    log p(y | h) = h . w_y - logsumexp_v(h . w_v)
    d log p / dh = w_y - sum_v softmax_v(h . w_v) w_v

Logits are the widest thing a small model computes: 2,048 tokens by SmolLM2's 49,152 words are
400 MB in float32, and autograd keeps them three times over. But one log-probability is one number,
and its gradient one vector of the hidden size. With the output matrix frozen, as under LoRA,
that vector can be computed right here, a block of tokens at a time, and kept instead: the
backward pass then only scales it. No product is computed twice.

The idea is that of Liger Kernel's fused linear cross entropy (Hsu et al., 2024, arXiv 2410.10989);
by giving log-probabilities rather than a loss it serves every objective built on them. Costs
``4 * tokens * hidden * vocab`` operations and ``block * vocab * 8`` bytes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_BLOCK = 256  # tokens: 50 MB of float32 logits for a vocabulary of 49,152


def token_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Natural log-probability of each target, in float32.

    ``hidden`` [tokens, hidden_size], ``weight`` [vocab, hidden_size] (no gradient goes there),
    ``targets`` [tokens] -> [tokens].
    """
    if weight.requires_grad and torch.is_grad_enabled():
        raise ValueError("the output matrix must be frozen: its gradient is not computed here")
    logprobs: Tensor = _TokenLogprobs.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return logprobs


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        logprobs = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden), _BLOCK):
            rows = slice(start, start + _BLOCK)
            picked = targets[rows].unsqueeze(1)  # [block, 1]
            # Rounded to the model's dtype by the product, as in the decoder; then exact.
            logits = F.linear(hidden[rows], weight).float()  # [block, vocab]
            logits -= logits.logsumexp(dim=1, keepdim=True)  # log-softmax
            logprobs[rows] = logits.gather(1, picked).squeeze(1)
            if gradient is not None:
                slope = logits.exp_().neg_()  # [block, vocab]: one-hot minus softmax
                slope.scatter_add_(1, picked, torch.ones_like(picked, dtype=slope.dtype))
                gradient[rows] = slope.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return logprobs

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = ctx.saved_tensors  # [tokens, hidden_size]
        return (gradient.float() * upstream.unsqueeze(1)).to(gradient.dtype), None, None
