"""Tiny models, and transformers' own as the reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny_llama import SHAPES

from llmwright.modeling import Decoder, ModelConfig, random_decoder


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def shape(request: pytest.FixtureRequest) -> ModelConfig:
    config: ModelConfig = request.param
    return config


@pytest.fixture
def decoder(shape: ModelConfig) -> Decoder:
    # Deviation 0.3: wrong positions or heads must show in the logits, not drown in symmetry.
    decoder = random_decoder(shape, seed=1, std=0.3)
    for name, weight in decoder.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            torch.manual_seed(len(name))
            weight.data += 0.3 * torch.randn_like(weight)
    return decoder


@pytest.fixture
def reference() -> Callable[[Decoder], torch.nn.Module]:
    """transformers' LlamaForCausalLM with a decoder's weights."""
    transformers = pytest.importorskip("transformers")

    def make(decoder: Decoder) -> torch.nn.Module:
        config = transformers.LlamaConfig(**decoder.config.to_dict(), attn_implementation="eager")
        model = transformers.LlamaForCausalLM(config).eval()
        model.load_state_dict(decoder.state_dict())
        return model

    return make
