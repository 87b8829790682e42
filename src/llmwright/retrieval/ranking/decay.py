"""Time decay: of two hits that answer equally well, the newer first.

    score' = score * f        f = 2 ** (-age / half_life)       (score * (2 - f) below zero)

so a hit one half-life old needs twice the score of one of today. Li and Croft, "Time-based
language models", CIKM 2003, multiply by an exponential prior of age in the same way. Costs a date
read a hit; run it on a shortlist deeper than what is shown, for an old page that was tenth may
make room for the twentieth.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from llmwright.core import ConfigurationError, Hit, InputError

_SHORT = re.compile(r"(\d{4})(?:-(\d{2}))?")  # a year, or a month, which fromisoformat refuses


def time_decay(
    hits: Sequence[Hit],
    *,
    half_life: timedelta,
    now: datetime,
    undated: float,
    key: str = "date",
) -> list[Hit]:
    """Hits by decayed score, best first; of equal ones, as they came.

    The date is the chunk's ``metadata[key]``, in ISO 8601: a year (its beginning), a month, a day
    or a moment, in UTC where it names no zone. What lies in the future is of ``now``. ``undated``
    is the factor, 0 to 1, of chunks that have no date: there is no harmless default (1 puts them
    before everything dated, 0 behind), so it must be said. Raises ``InputError`` for a date that
    cannot be read, ``ConfigurationError`` for arguments out of range.
    """
    if half_life <= timedelta(0) or not 0 <= undated <= 1:
        raise ConfigurationError(
            f"half_life is {half_life} and undated {undated}",
            where="time decay",
            fix="give a half_life above 0 and undated between 0 and 1",
        )
    decayed = []
    for hit in hits:
        value = hit.chunk.metadata.get(key, "").strip()
        factor = undated
        if value:
            age = max(
                _in_utc(now) - read_date(value, f"chunk {hit.chunk.id!r}, {key}"), timedelta(0)
            )
            factor = 2.0 ** (-(age / half_life))
        score = hit.score * (factor if hit.score >= 0 else 2 - factor)
        decayed.append(replace(hit, score=score))
    return sorted(decayed, key=lambda hit: -hit.score)


def read_date(value: str, where: str) -> datetime:
    """The moment an ISO 8601 date begins. Raises ``InputError`` for what is not one."""
    short = _SHORT.fullmatch(value)
    try:
        if short:
            return datetime(int(short[1]), int(short[2] or 1), 1, tzinfo=UTC)
        return _in_utc(datetime.fromisoformat(value))
    except ValueError as error:
        raise InputError(
            f"{value!r} is no date", where=where, fix="write it as 2024-05-31 (ISO 8601)"
        ) from error


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
