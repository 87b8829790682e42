"""Tokens in, tokens out: the engine, every decoding method, speculation, likelihoods.

This room knows token ids, logits and caches. It knows nothing of conversations (that is
``providers``) and nothing of weights (that is ``modeling``). Names are fetched when first used,
so importing the room is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.inference.decoding import logprob_of, next_token_distribution
    from llmwright.inference.engine import Engine, MemoryPlan, SoftPrompt, Stats, Token
    from llmwright.inference.likelihood import Perplexity, perplexity, token_logprobs
    from llmwright.inference.stopping import StopFilter

_HOMES = {
    "Engine": "engine",
    "MemoryPlan": "engine",
    "Perplexity": "likelihood",
    "SoftPrompt": "engine",
    "Stats": "engine",
    "StopFilter": "stopping",
    "Token": "engine",
    "logprob_of": "decoding",
    "next_token_distribution": "decoding",
    "perplexity": "likelihood",
    "token_logprobs": "likelihood",
}

__all__ = [
    "Engine",
    "MemoryPlan",
    "Perplexity",
    "SoftPrompt",
    "Stats",
    "StopFilter",
    "Token",
    "logprob_of",
    "next_token_distribution",
    "perplexity",
    "token_logprobs",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
