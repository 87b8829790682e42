"""Stop strings are found wherever the text is cut, and nothing of them is shown."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.inference.stopping import StopFilter

SMALL = st.text(alphabet="ab", max_size=12)
STOPS = st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3)


def reference(text: str, stops: list[str]) -> tuple[str, bool]:
    """Character by character, the definition."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


@settings(max_examples=500, deadline=None)
@given(st.lists(SMALL, max_size=6), STOPS)
def test_equals_the_definition_and_shows_only_what_is_certain(pieces, stops):
    filter_, shown, stopped = StopFilter(stops), "", False
    seen = ""
    for piece in pieces:
        seen += piece
        text, stopped = filter_.push(piece)
        shown += text
        # What was shown stays right whatever comes next, also the rest of any stop string.
        for rest in ["", *stops, *(stop[i:] for stop in stops for i in range(len(stop)))]:
            assert reference(seen + rest, stops)[0].startswith(shown)
        if stopped:
            break
    if not stopped:
        shown += filter_.flush()
    assert (shown, stopped) == reference("".join(pieces), stops)


def test_without_stops_nothing_is_held():
    assert StopFilter([]).push("text") == ("text", False)


def test_only_what_may_begin_a_stop_string_is_held_back():
    filter_ = StopFilter(["END"])
    assert [filter_.push(piece) for piece in ("so ", "it E", "N", "s", "EN")] == [
        ("so ", False), ("it ", False), ("", False), ("ENs", False), ("", False),
    ]  # fmt: skip
    assert filter_.flush() == "EN"
    assert filter_.push("D. END, and more") == ("D. ", True)
    assert filter_.flush() == ""
