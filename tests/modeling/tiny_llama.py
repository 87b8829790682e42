"""The shapes of the tiny models that the tests of this room share."""

from __future__ import annotations

from dataclasses import replace

from llmwright.modeling import ModelConfig

TINY = ModelConfig(
    vocab_size=97,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=10,
    rope_theta=10_000.0,
    tie_word_embeddings=False,
)
SHAPES = {
    "grouped": TINY,
    "tied": replace(TINY, tie_word_embeddings=True),
    "biased, every head its own keys": replace(
        TINY, num_key_value_heads=6, attention_bias=True, mlp_bias=True
    ),
    "one head of keys, large base": replace(TINY, num_key_value_heads=1, rope_theta=500_000.0),
}
