"""Headings to sections: anchors as GitHub makes them, and where each section ends."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from llmwright.core import Section


class Anchors:
    """GitHub's heading anchors, unique within one document.

    Lower case; everything goes but letters, marks, decimal digits, connectors such as ``_``,
    hyphens and spaces; spaces become hyphens. A repeated anchor gets ``-1``, ``-2``, ...
    (https://github.com/Flet/github-slugger, which GitHub's own output was compared with).
    """

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def add(self, title: str) -> str:
        kept = (c for c in title.lower() if c in " -" or _is_word(c))
        base = anchor = "".join(kept).replace(" ", "-")
        while anchor in self._seen:
            self._seen[base] += 1
            anchor = f"{base}-{self._seen[base]}"
        self._seen[anchor] = 0
        return anchor


def _is_word(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LM" or category in ("Nd", "Pc")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading found at ``text[start:]``."""

    title: str
    anchor: str
    level: int
    start: int


def to_sections(headings: Sequence[Heading], length: int) -> tuple[Section, ...]:
    """Each section runs to the next heading of its own or a higher level, or to ``length``."""
    ends = [length] * len(headings)
    waiting: list[int] = []  # headings whose end is not known yet, levels rising
    for index, heading in enumerate(headings):
        while waiting and headings[waiting[-1]].level >= heading.level:
            ends[waiting.pop()] = heading.start
        waiting.append(index)
    return tuple(
        Section(h.title, h.anchor, h.level, h.start, end)
        for h, end in zip(headings, ends, strict=True)
    )


class TextBuilder:
    """Puts a document's text together from blocks and remembers where its headings stand."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._anchors = Anchors()
        self.headings: list[Heading] = []

    def add(self, block: str, separator: str = "\n\n") -> None:
        """Add a block of text after ``separator``; an empty block leaves no trace."""
        if not block:
            return
        for part in (separator if self._parts else "", block):
            self._parts.append(part)
            self._length += len(part)

    def add_heading(self, title: str, level: int, anchor: str = "") -> None:
        """Add a heading as a block of its own, with the anchor the format gives or GitHub's."""
        if not title:
            return
        made = self._anchors.add(title)
        self.add(title)
        start = self._length - len(title)
        self.headings.append(Heading(title, anchor or made, level, start))

    def build(self) -> tuple[str, tuple[Section, ...]]:
        """The whole text and its sections."""
        return "".join(self._parts), to_sections(self.headings, self._length)
