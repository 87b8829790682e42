"""How likely a model finds a text.

    log p(x) = sum_{i>=2} log p(x_i | x_1 .. x_{i-1}),    perplexity = exp(-sum / tokens scored)

The first token of a text has nothing before it and is not scored. A text longer than the window
is read in windows that overlap: each starts ``stride`` tokens after the one before and scores
only the tokens that the one before did not reach, so that all but the first window's tokens have
at least ``window - stride`` tokens of context. Small strides cost more and give lower, truer
figures; ``window - 1``, the largest, is the usual cheap and pessimistic cut into blocks (Press,
Smith, Lewis, "Shortformer", 2021, arXiv 2012.15832, section 2).

Costs one forward pass a window. Logits are held for a few hundred tokens at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from llmwright.core import ConfigurationError, ContextLengthError, InputError, progress
from llmwright.inference.decoding import logprob_of
from llmwright.modeling import KVCache, Model

_CHUNK = 512  # tokens whose logits are held at once: 100 MB at 49,152 words


@dataclass(frozen=True, slots=True)
class Perplexity:
    """``value`` over ``tokens`` scored; ``sums[i]`` is the log-probability (natural) of text i and
    ``counts[i]`` its scored tokens, from which an interval over texts can be drawn."""

    value: float
    tokens: int
    sums: tuple[float, ...]
    counts: tuple[int, ...]


@torch.inference_mode()
def token_logprobs(model: Model, token_ids: Sequence[int], last: int | None = None) -> Tensor:
    """log p of each token given those before it: [time - 1], float32, from the second token on;
    with ``last``, of so many at the end, which spares the others their vocabulary layer.

    Raises ``ContextLengthError`` where the tokens exceed the model's context, and ``InputError``
    where there are none.
    """
    limit = model.config.max_position_embeddings
    if not token_ids:
        raise InputError("there is no token to score", fix="give at least one")
    if len(token_ids) > limit:
        raise ContextLengthError(
            f"{len(token_ids)} tokens, and the model's context holds {limit}",
            where=model.source,
            fix="use perplexity(), which reads long texts in windows",
        )
    device = model.decoder.device
    ids = torch.tensor(token_ids, device=device)  # [time]
    cache = KVCache(model.config, model.decoder.dtype, capacity=len(token_ids), device=device)
    # A rotary scaling may look at the length: of the whole text, whatever chunk is read.
    lengths = torch.tensor([[len(token_ids)]], device=device)
    parts = [torch.empty(0)]
    start = 0 if last is None else max(0, len(token_ids) - 1 - last)
    for begin in range(0, len(token_ids) - 1, _CHUNK):
        end = min(begin + _CHUNK, len(token_ids) - 1)
        chunk = ids[begin:end].unsqueeze(0)  # [1, chunk]
        wanted = torch.arange(min(max(start, begin), end) - begin, end - begin, device=device)
        positions = cache.positions(end - begin)
        logits = model.decoder(chunk, positions, cache, logits_at=wanted, lengths=lengths)
        parts.append(logprob_of(logits[0], ids[begin + 1 : end + 1][wanted]).cpu())  # [wanted]
    return torch.cat(parts)


def windows(length: int, window: int, stride: int) -> list[tuple[int, int, int]]:
    """Cut ``length`` tokens: (begin, end, how many tokens at the end to score) of each window.

    >>> windows(10, window=6, stride=3)
    [(0, 6, 5), (3, 9, 3), (6, 10, 1)]
    """
    begins = range(0, max(1, length - window + stride), stride)
    spans = [(begin, min(begin + window, length)) for begin in begins]
    first = [(*spans[0], max(0, spans[0][1] - 1))]
    return first + [(b, e, e - before) for (_, before), (b, e) in pairwise(spans)]


def perplexity(
    model: Model,
    texts: Sequence[str] | Sequence[Sequence[int]],
    *,
    window: int | None = None,
    stride: int | None = None,
) -> Perplexity:
    """Perplexity over texts, or over lists of token ids, all tokens weighing the same.

    ``window`` is by default 1,024 tokens or the model's context where that is smaller, ``stride``
    half the window. Raises ``ConfigurationError`` for windows that do not fit and ``InputError``
    where nothing can be scored.
    """
    limit = model.config.max_position_embeddings
    window = min(1024, limit) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if not (2 <= window <= limit and 1 <= stride < window):
        raise ConfigurationError(
            f"a window of {window} with stride {stride} cannot be read",
            where=model.source,
            fix=f"the window must be 2 to {limit} tokens, the stride 1 or more and smaller",
        )
    encode = model.tokenizer.encode
    token_lists = [encode(text) if isinstance(text, str) else list(text) for text in texts]
    sums, counts = [], []
    with progress("perplexity", sum(map(len, token_lists)), "tokens") as advance:
        for ids in token_lists:
            total, count, seen = 0.0, 0, 0
            for begin, end, new in windows(len(ids), window, stride):
                if new:
                    logprobs = token_logprobs(model, ids[begin:end], new)
                    total += float(logprobs.double().sum())
                    count += new
                advance(end - seen)
                seen = end
            sums.append(total)
            counts.append(count)
    if not sum(counts):
        raise InputError(
            "no text has two tokens, so nothing can be scored", fix="give longer texts"
        )
    value = math.exp(-math.fsum(sums) / sum(counts))
    return Perplexity(value, sum(counts), tuple(sums), tuple(counts))
