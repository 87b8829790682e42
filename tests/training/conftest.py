"""A tiny random model and a few records to learn."""

from __future__ import annotations

import pytest

from llmwright.core import Example, Message
from llmwright.modeling import Model, load_model


@pytest.fixture
def tiny(tiny_model_path) -> Model:
    """Loaded afresh for each test, since training changes it while it runs."""
    return load_model(str(tiny_model_path), "float32")


@pytest.fixture(scope="session")
def records() -> list[Example]:
    """Sixteen short conversations of different lengths."""
    return [
        Example((Message("user", f"What is {n}?" + " Say it." * (n % 4)), Message("assistant", w)))
        for n, w in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven"] * 2)
    ]
