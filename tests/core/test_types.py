"""The few types that compute something."""

from __future__ import annotations

from llmwright.core import Usage


def test_usage_adds_up():
    assert Usage() == Usage(0, 0)
    both = Usage(3, 1) + Usage(10, 20)
    assert both == Usage(prompt_tokens=13, completion_tokens=21)
    assert both.total_tokens == 34
