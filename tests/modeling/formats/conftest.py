"""A tiny model whose rows are whole blocks, with a tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llmwright.modeling import (
    Model,
    ModelConfig,
    load_model,
    random_decoder,
    replace_linears,
)
from llmwright.quantization import Scheme, round_to_nearest

# Rows of 256 for the K-quants; 8 and 2 heads, so that a wrong order of rows shows.
CONFIG = ModelConfig(
    vocab_size=416, hidden_size=256, intermediate_size=512, num_hidden_layers=2,
    num_attention_heads=8, num_key_value_heads=2, head_dim=32, max_position_embeddings=512,
)  # fmt: skip
MakeModel = Callable[..., Model]


@pytest.fixture
def make_model(tiny_model_path: Path) -> MakeModel:
    """A model of random weights; ``scheme`` quantizes its layers by rounding."""

    def make(scheme: Scheme | None = None, **changes: object) -> Model:
        tokenizer = load_model(tiny_model_path, "float32").tokenizer
        config = replace(CONFIG, **changes)
        decoder = random_decoder(config, seed=4, std=0.1)
        for name, weight in decoder.named_parameters():
            if name.endswith(("bias", "norm.weight")):
                torch.manual_seed(len(name))
                weight.data += 0.3 * torch.randn_like(weight)
        if scheme is not None:
            layers = {
                name: round_to_nearest(module.weight, scheme)
                for name, module in decoder.named_modules()
                if isinstance(module, torch.nn.Linear) and name != "lm_head"
            }
            replace_linears(decoder, layers)
        return Model(decoder, tokenizer, "/somewhere/tiny", "")

    return make
