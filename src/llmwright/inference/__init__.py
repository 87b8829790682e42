"""Tokens in, tokens out: sampling, many answers at once over one model, likelihoods.

This room knows token ids, logits and caches. It knows nothing of conversations (that is
``providers``) and nothing of weights (that is ``modeling``). Names are fetched when first used,
so importing the room is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.inference.generator import Generator, Stats
    from llmwright.inference.likelihood import Perplexity, perplexity, token_logprobs
    from llmwright.inference.ragged import RaggedAttention, SequenceCache
    from llmwright.inference.request import Token
    from llmwright.inference.sampling import logprob_of, next_token_distribution, sample
    from llmwright.inference.stopping import StopFilter

_HOMES = {
    "Generator": "generator",
    "Perplexity": "likelihood",
    "RaggedAttention": "ragged",
    "SequenceCache": "ragged",
    "Stats": "generator",
    "StopFilter": "stopping",
    "Token": "request",
    "logprob_of": "sampling",
    "next_token_distribution": "sampling",
    "perplexity": "likelihood",
    "sample": "sampling",
    "token_logprobs": "likelihood",
}

__all__ = [
    "Generator",
    "Perplexity",
    "RaggedAttention",
    "SequenceCache",
    "Stats",
    "StopFilter",
    "Token",
    "logprob_of",
    "next_token_distribution",
    "perplexity",
    "sample",
    "token_logprobs",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
