import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import Journal, read_jsonl


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 6), st.integers(0, 40))
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path_factory, order, killed_at, torn):
    path = tmp_path_factory.mktemp("journal") / "out.jsonl"
    journal = Journal(path, "run")
    for place in order[:killed_at]:
        journal.add(place, {"text": f"\u2028 {place}"})
    partial = path.with_name(".out.jsonl.partial")
    whole = partial.read_bytes()
    with partial.open("ab") as file:  # a line that a kill cut off
        file.write(b'{"place": 7, "record": {"text": "never finished"}}'[:torn])

    again = Journal(path, "run")
    assert sorted(again.done) == sorted(order[:killed_at])
    assert partial.read_bytes() == whole
    for place in order:
        if place not in again.done:
            again.add(place, {"text": f"\u2028 {place}"})
    records = again.finish()
    assert records == read_jsonl(path) == [{"text": f"\u2028 {place}"} for place in range(6)]
    assert [path.name for path in path.parent.iterdir()] == ["out.jsonl"]


def test_another_run_begins_anew(tmp_path):
    Journal(tmp_path / "out.jsonl", "one").add(0, {"a": 1})
    assert Journal(tmp_path / "out.jsonl", "two").done == {}
    assert Journal(tmp_path / "out.jsonl", "one").done == {}


def test_the_old_output_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text('{"old": true}\n')
    journal = Journal(path, "run")
    journal.add(0, {"old": False})
    assert read_jsonl(path) == [{"old": True}]
    journal.finish()
    assert read_jsonl(path) == [{"old": False}]
    with pytest.raises(FileNotFoundError):
        journal.finish()
