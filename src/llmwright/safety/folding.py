"""Bring disguised text to one plain form, and remember where each character came from.

Invisible characters are dropped, tag characters become the ASCII they hide, compatibility forms
(full-width, mathematical letters) their plain letter (NFKC), capitals small, ё is е, combining
accents fall away. Words are then also read with look-alike letters turned into Latin or into
Cyrillic, and with digits read as the letters they resemble. Cost: one pass.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from llmwright.safety.characters import visible

# Letters that look alike (a subset of Unicode's confusables, UTS 39). Greek goes to Latin.
_CYRILLIC, _LATIN = "авекмнорстухіјѕԁһӏ", "abekmhopctyxijsdhl"
_GREEK, _GREEK_LATIN = "αεικνορτυχβγ", "aeiknoptuxby"
_TO_LATIN = str.maketrans(_CYRILLIC + _GREEK, _LATIN + _GREEK_LATIN)
# The folding of в, н and р to b, h and p is by shape of the capital or small letter; both are used.
_TO_CYRILLIC = str.maketrans("abcehkmoptxyu", "авсенкмортхуи")
_LEET = str.maketrans("013457@$", "oieastas")


@dataclass(frozen=True, slots=True)
class Folded:
    """``text[i]`` came from the character ``origin[i]`` of the text that was folded."""

    text: str
    origin: list[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where ``text[start:end]`` stood before."""
        return self.origin[start], self.origin[end - 1] + 1


def fold(text: str) -> Folded:
    """The plain form of a text."""
    pieces: list[str] = []
    origin: list[int] = []
    for place, character in enumerate(text):
        plain = _plain(character)
        pieces.append(plain)
        origin += [place] * len(plain)
    return Folded("".join(pieces), origin)


@lru_cache(maxsize=8192)
def _plain(character: str) -> str:
    if character.isascii():
        return character.lower() if character.isprintable() or character in "\n\t\r" else ""
    composed = unicodedata.normalize("NFKC", visible(character)).lower().replace("ё", "е")
    return "".join(c for c in composed if unicodedata.category(c) != "Mn")


@lru_cache(maxsize=65536)
def readings(word: str) -> tuple[str, ...]:
    """A folded word as it stands, and as it looks: Latin, Cyrillic, digits as letters."""
    return tuple(
        dict.fromkeys(
            (
                word,
                word.translate(_TO_LATIN),
                word.translate(_TO_CYRILLIC),
                word.translate(_LEET).translate(_TO_LATIN) if not word.isdigit() else word,
            )
        )
    )
