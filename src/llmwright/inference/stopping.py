"""Cutting text before a stop string, and never showing a piece that might belong to one.

A stop string may span tokens, so text that could be the beginning of one is held back until the
next piece decides. Among several stop strings the one that is complete first wins (of those the
longest), as if text came one character at a time; so the result does not depend on how
the text was cut into pieces.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopFilter:
    """Pass pieces of text through; find the first of ``stops``.

    >>> text = StopFilter(["END"])
    >>> text.push("so it E"), text.push("volves. EN"), text.push("D of all")
    (('so it ', False), ('Evolves. ', False), ('', True))
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, piece: str) -> tuple[str, bool]:
        """Text that is now certain, and whether a stop string ended it."""
        if not self._stops:
            return piece, False
        text = self._held + piece
        found = [(at + len(s), at) for s in self._stops if (at := text.find(s)) >= 0]
        if found:
            self._held = ""
            return text[: min(found)[1]], True
        held = max(self._overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - held :]
        return text[: len(text) - held], False

    def flush(self) -> str:
        """What was held back, now that no more text comes."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Length of the longest end of ``text`` that begins ``stop`` without completing it."""
        longest = min(len(text), len(stop) - 1)
        return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
