"""What the engine has done and is doing, in the figures that servers are judged by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds over the most recent events: median and 95th percentile, None before the second."""

    p50: float | None = None
    p95: float | None = None

    @classmethod
    def over(cls, seconds: Iterable[float]) -> Times:
        values = list(seconds)
        if len(values) < 2:
            return cls()
        cuts = quantiles(values, n=20, method="inclusive")
        return cls(cuts[9], cuts[18])


@dataclass(slots=True)
class Stats:
    """Counts since the start, and what is so now. ``cached_tokens`` of ``prompt_tokens`` were found
    in the prefix cache; ``accepted_drafts`` of ``drafted_tokens`` stood the check of speculative
    decoding, in which a drafted token costs ``draft_cost`` steps of one stream."""

    running: int = 0
    waiting: int = 0
    finished: int = 0
    cancelled: int = 0
    preemptions: int = 0
    steps: int = 0
    generated_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_drafts: int = 0
    draft_cost: float = 0.0
    blocks: int = 0
    blocks_free: int = 0
    time_to_first_token: Times = Times()
    time_between_tokens: Times = Times()

    @property
    def cache_hit_rate(self) -> float:
        """Share of the prompts' tokens that did not have to be computed."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    @property
    def acceptance_rate(self) -> float:
        """Share of the drafted tokens that were kept."""
        return self.accepted_drafts / self.drafted_tokens if self.drafted_tokens else 0.0
