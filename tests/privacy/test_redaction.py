from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError
from llmwright.privacy import PII_KINDS, Span, find_pii, redact, restore

VALUES = [
    "anna@example.com",
    "почта@пример.рф",
    "+7 916 123-45-67",
    "8 (495) 123-45-67",
    "(212) 555-0123",
    "4111 1111 1111 1111",
    "8.8.8.8",
    "2001:db8::1",
]
WORDS = [
    "Write",
    "to",
    "или",
    "позвоните,",
    "<EMAIL_1>",
    "<PHONE_1>",
    "1.2.3",
    "42",
    "и",
    "\n",
    "—",
    "(a)",
]
texts = st.lists(st.sampled_from(VALUES + WORDS), max_size=12).map(" ; ".join)


def test_same_value_same_placeholder() -> None:
    text = "a@b.io wrote to c@d.io; a@b.io answered from 8.8.8.8"
    redacted = redact(text, find_pii(text))
    assert redacted.text == "<EMAIL_1> wrote to <EMAIL_2>; <EMAIL_1> answered from <IP_1>"
    assert redacted.mapping == {"<EMAIL_1>": "a@b.io", "<EMAIL_2>": "c@d.io", "<IP_1>": "8.8.8.8"}
    assert "a@b.io" not in repr(redacted)


def test_a_placeholder_that_stands_in_the_text_is_not_used() -> None:
    text = "<EMAIL_1> is a placeholder, a@b.io an address"
    redacted = redact(text, find_pii(text))
    assert redacted.text == "<EMAIL_1> is a placeholder, <EMAIL_2> an address"
    assert restore(redacted.text, redacted.mapping) == text


def test_a_conversation_shares_its_mapping() -> None:
    first = redact("a@b.io", [Span(0, 6, "email")], reserved="c@d.io or <EMAIL_1>")
    assert first.text == "<EMAIL_2>"
    second = redact("c@d.io and a@b.io", find_pii("c@d.io and a@b.io"), known=first.mapping)
    assert second.text == "<EMAIL_1> and <EMAIL_2>"
    assert restore("<EMAIL_2>, <EMAIL_9>", second.mapping) == "a@b.io, <EMAIL_9>"


def test_restoring_does_not_look_into_what_it_put_back() -> None:
    assert restore("<IP_1>", {"<IP_1>": "<IP_2>", "<IP_2>": "x"}) == "<IP_2>"


@given(texts)
def test_nothing_personal_remains_and_all_comes_back(text: str) -> None:
    redacted = redact(text, find_pii(text))
    assert restore(redacted.text, redacted.mapping) == text
    assert find_pii(redacted.text) == []
    assert not any(value in redacted.text for value in VALUES)


@given(
    st.text(st.sampled_from("ab1<>_EMAIL @."), max_size=40),
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 9), st.sampled_from(PII_KINDS)), max_size=5
    ),
)
def test_any_spans_come_back(text: str, places: list[tuple[int, int, str]]) -> None:
    spans = [Span(s, s + n, kind) for s, n, kind in places if s + n <= len(text)]  # type: ignore[arg-type]
    redacted = redact(text, spans)
    assert restore(redacted.text, redacted.mapping) == text


def test_a_span_outside_the_text_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="from 2 to 9 in a text of 3"):
        redact("abc", [Span(2, 9, "ip")])
