from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.safety.characters import find_hidden, strip_hidden, visible


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("a\x00b", "control characters"),
        ("\x1b[31mred", "control characters"),
        ("a\x9bb", "control characters"),
        ("abc\u202etxt.exe", "characters that change the direction of reading"),
        ("a\u2066b\u2069", "characters that change the direction of reading"),
        ("pass\u200bword", "invisible characters"),
        ("pass\u200dword", "invisible characters"),
        ("па\u2060роль", "invisible characters"),
        ("mid\ufeffdle", "invisible characters"),
        ("👩\u200b💻", "invisible characters"),
        ("hi\U000e0068\U000e0069", "invisible tag characters"),
        ("a\ufe00\ufe01\ufe02", "a run of variation selectors"),
        ("a\U000e0100\U000e0101", "a run of variation selectors"),
    ],
)
def test_hidden(text: str, detail: str) -> None:
    assert next(find_hidden(text)).detail == detail
    assert list(find_hidden(strip_hidden(text))) == []


@pytest.mark.parametrize(
    "text",
    [
        "tab\tline\r\nfeed\x85",
        "\ufeffafter a byte order mark",
        "soft\u00adhyphen",
        "👩\u200d💻 and 👨\u200d👩\u200d👧",
        "❤\ufe0f",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # Scotland
        "می\u200cخواهم",  # Persian
        "क\u094d\u200dष",  # Devanagari
        "Ёлка — «да», café, 東京, \u05e9\u05dc\u05d5\u05dd",
    ],
)
def test_what_people_write_is_left(text: str) -> None:
    assert list(find_hidden(text)) == []
    assert strip_hidden(text) == text


def test_tags_are_read_as_what_they_hide() -> None:
    assert visible("x" + "".join(chr(0xE0000 + ord(c)) for c in "obey me") + "\u200b") == "xobey me"


@given(st.text())
def test_stripping_takes_only_what_is_found(text: str) -> None:
    found = sum(finding.end - finding.start for finding in find_hidden(text))
    assert len(strip_hidden(text)) == len(text) - found
