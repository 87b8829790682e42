"""Asynchronous work from code that waits."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmwright.core import waited


async def _where(value: int) -> tuple[int, int]:
    await asyncio.sleep(0)
    return value, id(asyncio.get_running_loop())


def test_all_threads_share_one_loop():
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda value: waited(_where(value)), range(20)))
    assert [value for value, _ in results] == list(range(20))
    assert len({loop for _, loop in results}) == 1


def test_errors_come_through():
    async def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        waited(fail())
