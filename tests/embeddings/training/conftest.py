"""Pairs for a tiny encoder: what the halves of one sentence have in common."""

from __future__ import annotations

import pytest

from llmwright.embeddings.training import Pair

WORDS = [
    "adapter",
    "attention",
    "batch",
    "cache",
    "chunk",
    "decoder",
    "embedding",
    "gradient",
    "index",
    "kernel",
    "layer",
    "margin",
    "negative",
    "optimizer",
    "passage",
    "query",
    "rank",
    "sampler",
    "tensor",
    "token",
    "vector",
    "weight",
]


@pytest.fixture(scope="session")
def pairs() -> list[Pair]:
    return [
        Pair(
            query=f"What does the {word} do?",
            positive=f"The {word} stands beside the {WORDS[place - 1]}, and is read once.",
            negatives=(f"No {WORDS[place - 7]} is written here.",),
            score=float(place % 3),
            margin=0.1 * (place % 4),
        )
        for place, word in enumerate(WORDS)
    ]
