"""A tiny random decoder, and transformers' model of the same weights."""

from __future__ import annotations

import pytest
import torch
import transformers
from tiny_llama import TINY

from llmwright.modeling import Decoder, random_decoder


@pytest.fixture(scope="session")
def decoder() -> Decoder:
    return random_decoder(TINY, seed=4, std=0.3)


@pytest.fixture(scope="session")
def reference(decoder: Decoder) -> torch.nn.Module:
    config = transformers.LlamaConfig(
        **decoder.config.to_dict(), attn_implementation="eager", pad_token_id=0
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.load_state_dict(decoder.state_dict())
    return model
