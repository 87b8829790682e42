"""What quantization costs and gains: bits, bytes, perplexity, distance to the full model, speed.

    perplexity = exp(mean over tokens of -log q(x_i | x_<i))
    KL(p || q) = mean over tokens of sum_v p(v | x_<i) log(p(v | x_<i) / q(v | x_<i))

with p the full model and q the quantized one. Perplexity can come out well by luck, when errors
help as often as they hurt; the divergence counts every change of the distribution. The full
model's hidden states are kept, [tokens, hidden] each text, so its probabilities cost one product
with the vocabulary and not a forward pass for each method compared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmwright.core import InputError, progress
from llmwright.modeling import Attention, Decoder, KVCache, quantized_weights

_WINDOW = 1024  # tokens read at once
_DENSE_BITS = 16  # what a weight that is not quantized takes in a file


@dataclass(frozen=True, slots=True)
class Measurement:
    """``bits`` a weight of the quantized matrices, scales counted; ``bytes`` of all weights in a
    file, the others in half precision; ``kl`` in nats a token."""

    name: str
    bits: float
    bytes: int
    perplexity: float
    kl: float
    tokens: int
    tokens_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """The full model on held-out text: its hidden states and the layer that makes logits."""

    token_ids: tuple[Tensor, ...]  # [time] each
    hidden: tuple[Tensor, ...]  # [time - 1, hidden] each
    lm_head: nn.Module


@torch.inference_mode()
def reference(decoder: Decoder, token_lists: Sequence[Sequence[int]]) -> Reference:
    """What ``measure_model`` compares with. Texts longer than 1,024 tokens are read in pieces, each
    from its own beginning. Raises ``InputError`` where no text has two tokens."""
    ids = [
        torch.tensor(tokens[start : start + _WINDOW])
        for tokens in token_lists
        for start in range(0, len(tokens), _WINDOW)
        if len(tokens) - start > 1
    ]
    if not ids:
        raise InputError("no text has two tokens to measure on", fix="give longer texts")
    hidden = []
    with progress("the full model", sum(map(len, ids)), "tokens") as advance:
        for text in ids:
            hidden.append(decoder.model(text[None, :-1].to(decoder.device))[0])
            advance(len(text))
    return Reference(tuple(ids), tuple(hidden), decoder.lm_head)


@torch.inference_mode()
def measure_model(
    name: str,
    decoder: Decoder,
    against: Reference,
    *,
    attention: Attention | None = None,
) -> Measurement:
    """Bits, bytes, perplexity and divergence of ``decoder`` on the reference's text."""
    surprise, divergence, count = 0.0, 0.0, 0
    total = sum(map(len, against.token_ids))
    with progress(f"measuring {name}", total, "tokens") as advance:
        for text, hidden in zip(against.token_ids, against.hidden, strict=True):
            inputs, targets = text[None, :-1].to(decoder.device), text[1:].to(decoder.device)
            got = decoder(inputs, attention=attention)[0].log_softmax(-1)  # [time - 1, vocab]
            wanted = against.lm_head(hidden).float().log_softmax(-1)
            surprise -= float(got.gather(1, targets[:, None]).double().sum())
            divergence += float(F.kl_div(got, wanted, reduction="sum", log_target=True))
            count += len(targets)
            advance(len(text))
    bits, size = stored_size(decoder)
    perplexity = math.exp(surprise / count)
    return Measurement(name, bits, size, perplexity, divergence / count, count)


def stored_size(decoder: Decoder) -> tuple[float, int]:
    """Bits a weight of the quantized matrices (16 where there are none), and bytes of the whole
    model in a file. An embedding that is the output matrix too counts once."""
    quantized = {id(weight): weight for weight in quantized_weights(decoder).values()}
    bits = sum(weight.stored_bits for weight in quantized.values())
    many = sum(weight.codes.numel() for weight in quantized.values())
    dense = sum(parameter.numel() for parameter in decoder.parameters())
    whole = math.ceil((bits + dense * _DENSE_BITS) / 8)
    return (bits / many if many else float(_DENSE_BITS)), whole


@torch.inference_mode()
def decode_speed(decoder: Decoder, prompt: Sequence[int], *, tokens: int = 32) -> float:
    """Tokens a second when ``tokens`` follow ``prompt``, the likeliest each time, alone in its
    batch, by the plain cache. The prompt and a first step are read before the clock starts."""
    cache = KVCache(decoder.config, decoder.dtype, capacity=len(prompt) + tokens + 2)
    last = torch.tensor([[*prompt]], device=decoder.device)
    began = 0.0
    for step in range(tokens + 2):
        if step == 2:
            began = time.perf_counter()
        positions = cache.positions(last.shape[1])
        logits = decoder(last, positions, cache, logits_at=torch.tensor([last.shape[1] - 1]))
        last = logits[:, -1].argmax(-1, keepdim=True)  # [1, 1]
    return tokens / (time.perf_counter() - began)


def recommend(
    results: Sequence[Measurement], full: Measurement, within: float = 0.02
) -> Measurement:
    """The smallest whose perplexity is at most ``within`` (a share) above the full model's; where
    none is, the one with the lowest perplexity."""
    good = [r for r in results if r.perplexity <= full.perplexity * (1 + within)]
    if good:
        return min(good, key=lambda result: (result.bytes, result.perplexity))
    return min(results, key=lambda result: result.perplexity)
