"""A model's weights under another rotary scaling: its context extended without training.

The two models share every weight; only the rotary embedding and the configuration differ, so the
extension costs no memory and no time. Tuning at the new length is ``training``'s.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TypeVar

from torch import nn

from llmwright.core import ConfigurationError
from llmwright.modeling.config import ModelConfig
from llmwright.modeling.model import Model
from llmwright.modeling.rope import RotaryEmbedding
from llmwright.modeling.rope_scaling import (
    DynamicScaling,
    LinearScaling,
    NTKScaling,
    RopeScaling,
    YarnScaling,
)

Shared = TypeVar("Shared", bound=nn.Module)

SCALING_METHODS = ("none", "linear", "ntk", "dynamic", "yarn")
"""Those that a factor alone describes. LongRoPE's factors are the outcome of a search, Llama 3's
belong to models trained with them: both come with a checkpoint."""


def scaling_by_name(method: str, factor: float, trained: int) -> RopeScaling | None:
    """One of ``SCALING_METHODS``, for ``factor`` times the ``trained`` length."""
    if method == "none":
        return None
    if method == "linear":
        return LinearScaling(factor)
    if method == "ntk":
        return NTKScaling(factor)
    if method == "dynamic":
        return DynamicScaling(factor, trained)
    if method == "yarn":
        return YarnScaling(factor, trained)
    raise ConfigurationError(
        f"there is no scaling called {method!r}",
        where="method",
        fix=f"use {', '.join(SCALING_METHODS)}",
    )


def trained_length(config: ModelConfig) -> int:
    """The length of the texts a model was trained on, before any extension of its context."""
    original = getattr(config.rope_scaling, "original_max_position_embeddings", None)
    return config.max_position_embeddings if original is None else int(original)


def extend_context(model: Model, scaling: RopeScaling | None, context: int) -> Model:
    """``model`` with rotary ``scaling`` and room for ``context`` tokens; the weights are shared,
    and ``model`` itself stays as it was."""
    config = replace(model.config, rope_scaling=scaling, max_position_embeddings=context)
    decoder = _shell(model.decoder)
    decoder.config = config
    decoder.model = _shell(model.decoder.model)
    decoder.model.rotary = RotaryEmbedding(config.head_dim, config.rope_theta, scaling)
    return replace(model, decoder=decoder)


def _shell(module: Shared) -> Shared:
    """Another module over the same children and weights."""
    shell = copy.copy(module)
    # A copied module shares these dictionaries, and setting a child would show in both.
    for name in ("_modules", "_parameters", "_buffers"):
        shell.__dict__[name] = dict(module.__dict__[name])
    return shell
