"""The kernels, or the reason why their tests are skipped."""

from __future__ import annotations

import pytest

from llmwright.inference.native import native_available


@pytest.fixture(autouse=True, scope="session")
def kernels() -> None:
    if not (native := native_available()):
        pytest.skip(native.reason)
