"""How much of a text that is still being written may be looked at and let go.

An e-mail or IP address holds no white space. A phone or card number may, but then the word before
the white space has a digit or a sign of such numbers in it, or is the "ext." between a number and
its extension. So it is safe to cut behind white space when neither of the two words before it
could belong to one, and what stands before the cut can be searched on its own. Where there is no
such place (numbers, or a script without spaces) the last ``LONGEST`` characters are held back,
for nothing that ``find_pii`` finds is longer. Cost: linear in the text held.
"""

from __future__ import annotations

import re
import unicodedata

from llmwright.privacy.pii import VERSION, find_pii
from llmwright.privacy.redaction import PLACEHOLDER_LENGTH

LONGEST = 700  # an e-mail address of 64 + 1 + 8 * 64 + 64 characters is shorter

_BREAK = re.compile(r"\s+|[。，、！？；：]+")
_NUMBERISH = re.compile(r"[\d+＋()@<]")
_LABEL = 24  # characters that the two words before a cut are looked for in, at least


def safe_length(text: str) -> int:
    """The length of the longest start of ``text`` that no personal data, nor a placeholder, can
    reach over, whatever is written next. 0 where nothing is safe yet."""
    for cut in reversed([match.end() for match in _BREAK.finditer(text)]):
        if cut < len(text) - LONGEST:
            break
        if _is_safe(text, cut):
            return cut
    cut = len(text) - LONGEST
    if cut <= 0:
        return 0
    cut = next((s.start for s in find_pii(text) if s.start < cut < s.end), cut)
    opening = text.rfind("<", max(0, cut - PLACEHOLDER_LENGTH), cut)
    return opening if opening >= 0 else cut


def _is_invisible(word: str) -> bool:
    return all(unicodedata.category(letter).startswith("C") for letter in word)


def _is_safe(text: str, cut: int) -> bool:
    start = max(0, cut - LONGEST)
    # Invisible characters between a number and its extension are no word between them.
    words = [word for word in text[start:cut].split() if not _is_invisible(word)][-2:]
    return not any(_NUMBERISH.search(word) for word in words) and not VERSION.search(
        text[max(0, cut - _LABEL) : cut]
    )
