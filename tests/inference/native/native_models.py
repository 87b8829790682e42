"""Tiny models in every form of weights that the kernels compute with."""

from __future__ import annotations

from dataclasses import replace

import torch
from tiny_llama import TINY
from torch import nn

from llmwright.modeling import (
    Decoder,
    ModelConfig,
    QuantizedWeight,
    random_decoder,
    replace_linears,
)

GROUPED = replace(
    TINY, hidden_size=64, intermediate_size=96, head_dim=16, num_attention_heads=6, vocab_size=101
)


def rounded(
    weight: torch.Tensor, bits: int, group_size: int, *, symmetric: bool = False, order: int = 0
) -> QuantizedWeight:
    """Round to nearest, the plain way. ``order`` seeds a permutation of the columns' groups."""
    rows, columns = weight.shape
    size = group_size or columns
    group = torch.arange(columns) // size
    if order:
        group = group[torch.randperm(columns, generator=torch.Generator().manual_seed(order))]
    groups, levels = int(group.max()) + 1, (1 << bits) - 1
    scales, zeros = torch.zeros(2, rows, groups)
    codes = torch.zeros(rows, columns, dtype=torch.uint8)
    for n in range(groups):
        part = weight[:, group == n]
        if symmetric:
            scale = part.abs().amax(1) * 2 / levels
            zero = torch.full_like(scale, (levels + 1) / 2)
        else:
            scale = (part.amax(1) - part.amin(1)) / levels
            zero = -part.amin(1) / scale
        scales[:, n], zeros[:, n] = scale, zero
        values = part / scale[:, None] + zero[:, None]
        codes[:, group == n] = values.round().clamp(0, levels).to(torch.uint8)
    return QuantizedWeight(codes, scales, zeros, bits, size, group if order else None)


def quantized_decoder(config: ModelConfig, bits: int, group_size: int, **how: object) -> Decoder:
    decoder = random_decoder(config, std=0.2).bfloat16()
    weights = {
        name: rounded(module.weight.detach().float(), bits, group_size, **how)
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear)
    }
    replace_linears(decoder, weights)
    return decoder


def decoder_of(form: str) -> Decoder:
    if form in ("float32", "bfloat16"):
        return random_decoder(GROUPED, std=0.2).to(getattr(torch, form))
    bits, group = {"int8": (8, 0), "int4": (4, 32)}[form]
    return quantized_decoder(GROUPED, bits, group)
