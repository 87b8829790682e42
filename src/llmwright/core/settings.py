"""Settings of the machine, not of the work: environment variables ``LLMWRIGHT_*``.

What changes a result belongs in the recipe; what differs between machines belongs here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from llmwright.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Settings:
    """``cache`` keeps fetched models (``LLMWRIGHT_CACHE``); ``offline`` forbids every fetch
    (``LLMWRIGHT_OFFLINE``); ``threads`` bounds the processor threads of models, 0 meaning all
    (``LLMWRIGHT_THREADS``); ``api_key`` is asked of clients by ``serve`` (``LLMWRIGHT_API_KEY``);
    ``progress`` shows bars on a terminal (``LLMWRIGHT_PROGRESS``); ``native`` allows the compiled
    CPU kernels (``LLMWRIGHT_NATIVE``)."""

    cache: Path
    offline: bool
    threads: int
    api_key: str = field(repr=False)
    progress: bool
    native: bool


def _flag(name: str, default: bool) -> bool:
    value = os.environ.get(name, "").strip().lower()
    if value in ("", "1", "0", "true", "false", "yes", "no"):
        return default if value == "" else value in ("1", "true", "yes")
    raise ConfigurationError(f"{value!r} is not a switch", where=name, fix="set it to 1 or 0")


def native_allowed() -> bool:
    """``settings().native`` alone, for those who ask at every call."""
    return _flag("LLMWRIGHT_NATIVE", default=True)


def settings() -> Settings:
    """Read the environment now; nothing is remembered between calls."""
    import platformdirs

    cache = os.environ.get("LLMWRIGHT_CACHE") or platformdirs.user_cache_dir("llmwright")
    threads = os.environ.get("LLMWRIGHT_THREADS", "0")
    if not threads.isdecimal():
        raise ConfigurationError(
            f"{threads!r} is not a number of threads",
            where="LLMWRIGHT_THREADS",
            fix="set it to a whole number, 0 for all",
        )
    return Settings(
        cache=Path(cache).expanduser(),
        offline=_flag("LLMWRIGHT_OFFLINE", default=False),
        threads=int(threads),
        api_key=os.environ.get("LLMWRIGHT_API_KEY", ""),
        progress=_flag("LLMWRIGHT_PROGRESS", default=True),
        native=native_allowed(),
    )
