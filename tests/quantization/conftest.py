"""A tiny decoder whose activations are as uneven as a trained model's."""

import pytest
import torch

from llmwright.modeling import ModelConfig, random_decoder


@pytest.fixture
def decoder():
    config = ModelConfig(
        vocab_size=160, hidden_size=48, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=12,
    )  # fmt: skip
    decoder = random_decoder(config, seed=3, std=0.04)
    draw = torch.Generator().manual_seed(4)
    for name, weight in decoder.named_parameters():
        if name.endswith("layernorm.weight"):  # a few channels far larger than the rest
            weight.data.copy_(torch.rand(48, generator=draw) + 0.5)
            weight.data[[5, 17]] *= 15
    return decoder


@pytest.fixture
def token_ids():
    """[sequences, time]"""
    return torch.randint(0, 160, (6, 32), generator=torch.Generator().manual_seed(5))
