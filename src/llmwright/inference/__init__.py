"""Tokens in, tokens out: the engine, every decoding method, speculation, likelihoods.

This room knows token ids, logits and caches. It knows nothing of conversations (that is
``providers``) and nothing of weights (that is ``modeling``). Names are fetched when first used,
so importing the room is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.inference.decoding import logprob_of
    from llmwright.inference.engine import (
        Engine,
        EngineOptions,
        SoftPrompt,
        Stats,
        Token,
    )
    from llmwright.inference.likelihood import Perplexity, perplexity, token_logprobs
    from llmwright.inference.longcontext import (
        Found,
        Needle,
        find_needles,
        hide,
        logprobs_at,
        make_needles,
    )
    from llmwright.inference.runners import MemoryPlan
    from llmwright.inference.stopping import StopFilter

_HOMES = {
    "Engine": "engine",
    "EngineOptions": "engine",
    "Found": "longcontext",
    "MemoryPlan": "runners",
    "Needle": "longcontext",
    "Perplexity": "likelihood",
    "SoftPrompt": "engine",
    "Stats": "engine",
    "StopFilter": "stopping",
    "Token": "engine",
    "find_needles": "longcontext",
    "hide": "longcontext",
    "logprob_of": "decoding",
    "logprobs_at": "longcontext",
    "make_needles": "longcontext",
    "perplexity": "likelihood",
    "token_logprobs": "likelihood",
}

__all__ = [
    "Engine",
    "EngineOptions",
    "Found",
    "MemoryPlan",
    "Needle",
    "Perplexity",
    "SoftPrompt",
    "Stats",
    "StopFilter",
    "Token",
    "find_needles",
    "hide",
    "logprob_of",
    "logprobs_at",
    "make_needles",
    "perplexity",
    "token_logprobs",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
