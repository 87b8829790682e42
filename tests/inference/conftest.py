"""A tiny random model, loaded once."""

from __future__ import annotations

import pytest

from llmwright.modeling import Model, load_model


@pytest.fixture(scope="session")
def tiny(tiny_model_path) -> Model:
    return load_model(str(tiny_model_path), "float32")
