"""Characters that a person does not see but a model reads.

- control: C0 and C1 except tab, line feed and carriage return (terminal escapes among them);
- bidi: overrides and isolates U+202A..202E, U+2066..2069, which show text in another order than
  it is read ("Trojan Source", Boucher and Anderson 2021, arXiv 2111.00169);
- invisible: zero-width space, word joiner and the like inside words; joiners U+200C, U+200D only
  where they do nothing (they are part of emoji and of Persian and Indic words);
- tag: U+E0000..E007F, an invisible ASCII used to smuggle instructions, but in flag emoji;
- selector: two or more variation selectors in a row, which can carry bytes.

Unassigned characters and private use are left alone. Cost: one pass.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from llmwright.safety.verdict import Finding

_SUSPECT = re.compile(
    "(?P<control>[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]+)"
    "|(?P<bidi>[\u202a-\u202e\u2066-\u2069]+)"
    "|(?P<invisible>[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200d\u2060-\u2064\u206a-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb]+)"
    "|(?P<tag>[\U000e0000-\U000e007f]+)"
    "|(?P<selector>[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,})"
)
_DETAIL = {
    "control": "control characters",
    "bidi": "characters that change the direction of reading",
    "invisible": "invisible characters",
    "tag": "invisible tag characters",
    "selector": "a run of variation selectors",
}
_BLACK_FLAG = "\U0001f3f4"


def find_hidden(text: str) -> Iterator[Finding]:
    """What in the text is hidden from the eye. A soft hyphen and a byte order mark at the start
    are common in copied text and left."""
    for match in _SUSPECT.finditer(text):
        kind = match.lastgroup or ""
        if _is_innocent(kind, text, *match.span()):
            continue
        yield Finding("characters", *match.span(), _DETAIL[kind], 1.0)


def _is_innocent(kind: str, text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 1]
    run = text[start:end]
    if kind == "tag":  # the flags of Scotland, Wales, England
        return before == _BLACK_FLAG and run.endswith("\U000e007f") and end - start <= 7
    if kind != "invisible":
        return False
    if run == "\ufeff" and start == 0:
        return True  # a byte order mark
    if run == "\u00ad":
        return True  # a soft hyphen, common in text copied from books; dropped when scanning
    # A joiner between emoji, or between letters of a script that joins.
    return run in ("\u200c", "\u200d") and _joins(before) and (_joins(after) or after == "")


def _joins(character: str) -> bool:
    if not character or character.isascii():
        return False
    if unicodedata.category(character) in ("So", "Sk", "Mn", "Mc"):
        return True
    name = unicodedata.name(character, "")
    return unicodedata.category(character).startswith("L") and not name.startswith(
        ("LATIN", "CYRILLIC", "GREEK", "CJK", "HIRAGANA", "KATAKANA", "HANGUL")
    )


def strip_hidden(text: str) -> str:
    """The text without what ``find_hidden`` finds."""
    pieces, at = [], 0
    for finding in find_hidden(text):
        pieces.append(text[at : finding.start])
        at = finding.end
    return "".join([*pieces, text[at:]])


def visible(text: str) -> str:
    """The text without any of them, innocent or not, and with tag characters turned into the
    ASCII they hide: what a pattern is looked for in."""
    return _SUSPECT.sub("", text.translate(_TAGS))


_TAGS = {0xE0000 + code: chr(code) for code in range(0x20, 0x7F)}
