from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.privacy import find_pii, redact, safe_length

WORDS = [
    "Write to", "anna@example.com", "или", "+7 916 123-45-67", "доб. 12,", "8 (495) 123-45-67", "call",
    "4111 1111 1111 1111", "8.8.8.8", "version", "1.2.3.4", "2001:db8::1", "<EMAIL_1>", "on", "3 May,",
    "東京、大阪。", "—", "\n\n", "(212) 555-0123",
]  # fmt: skip
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=14).map(" ".join)


def segments(text: str, cuts: list[int]) -> list[str]:
    """What a stream written up to each of ``cuts`` lets go, and the rest at its end."""
    done, given_out = 0, []
    for cut in [*sorted(c for c in cuts if c < len(text)), None]:
        ready = safe_length(text[done:cut]) if cut is not None else len(text) - done
        if ready > 0:
            given_out.append(text[done : done + ready])
            done += ready
    return given_out


@settings(max_examples=200)
@given(texts, st.lists(st.integers(1, 200), max_size=8))
def test_pieces_are_redacted_as_the_whole_is(text: str, cuts: list[int]) -> None:
    known: dict[str, str] = {}
    out = ""
    for piece in segments(text, cuts):
        redacted = redact(piece, find_pii(piece), known=known, reserved=text)
        known.update(redacted.mapping)
        out += redacted.text
    assert out == redact(text, find_pii(text)).text


def test_prose_is_held_back_by_a_word_and_numbers_until_two_words_follow() -> None:
    assert safe_length("The rank of an upd") == len("The rank of an ")
    assert safe_length("Call me at +7 916 1") == len("Call me at ")
    assert safe_length("Call me at +7 916 123-45-67 ext. ") == len("Call me at ")
    assert safe_length("at +7 916 123-45-67, not in ") == len("at +7 916 123-45-67, not in ")
    assert safe_length("needs version ") == len("needs ")
    assert safe_length("这是，第二") == len("这是，")
    assert safe_length("word") == 0


@pytest.mark.parametrize("unit", ["字", "1 ", "12345 ", "a@", "x"])
def test_what_has_no_safe_place_is_held_back_by_the_longest_only(unit: str) -> None:
    text = unit * 1000
    assert 0 < len(text) - safe_length(text) <= 1500


def test_a_forced_cut_spares_what_is_found_and_placeholders() -> None:
    address = "a" * 30 + "@" + "b" * 40 + ".example.com"
    for pad in range(620, 720, 7):
        text = (
            "字" * 50 + "。".join(["", ""]).replace("。", "") + "《" + address + "》" + "字" * pad
        )
        cut = safe_length(text)
        start = text.index(address)
        assert not start < cut < start + len(address)
    text = "字" * 50 + "<EMAIL_1>" + "字" * 695
    assert safe_length(text) == 50
