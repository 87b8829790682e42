import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import (
    InputError,
    append_jsonl,
    atomic_folder,
    atomic_write,
    read_json,
    read_jsonl,
    read_text,
    sweep,
    write_json,
    write_jsonl,
)


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(target) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "out"
    for content in ("first", "second"):
        with atomic_folder(target) as temporary:
            (temporary / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["second"]
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as temporary:
        (temporary / "third").write_text("half")
        _ = 1 / 0
    assert [path.name for path in target.iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_killed_writes_left_is_swept_and_nothing_else(tmp_path):
    import subprocess
    import sys

    code = (
        "import os, pathlib, sys\n"
        "from llmwright.core import atomic_folder, atomic_write\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with atomic_write(folder / 'sub' / 'a.txt') as file, atomic_folder(folder / 'b') as inner:\n"
        "    (inner / 'half').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert len(list(tmp_path.rglob("*"))) == 4
    kept = [tmp_path / ".records.jsonl.partial", tmp_path / ".gitignore", tmp_path / "x.abcdefgh"]
    for path in kept:
        path.write_text("kept")
    sweep(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(kept)


def test_writing_where_a_file_stands_in_the_way_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="cannot write here"),
        atomic_write(tmp_path / "file" / "x"),
    ):
        raise AssertionError("the block must not run")


def test_text_that_is_not_utf8_names_its_line(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"one\ntwo\ncaf\xe9\n")
    with pytest.raises(InputError, match=r"line 3.*0xe9.*save the file as UTF-8"):
        read_text(path)


def test_a_byte_order_mark_is_dropped(tmp_path):
    path = tmp_path / "bom.txt"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert read_text(path) == "hello"


records = st.lists(
    st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none(), st.booleans())),
    min_size=1,
)


@given(records)
def test_jsonl_comes_back_as_it_went(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("jsonl") / "r.jsonl"
    write_jsonl(path, values)
    assert read_jsonl(path) == values


def test_appended_records_are_read_back(tmp_path):
    path = tmp_path / "r.jsonl"
    append_jsonl(path, {"a": 1})
    append_jsonl(path, {"a": "\u2028 two"})
    assert read_jsonl(path) == [{"a": 1}, {"a": "\u2028 two"}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "line 2.*not valid JSON"),
        ("[1]", "line 2.*JSON list"),
        ('{"id": 1}', "line 2.*'text' is missing"),
        ('{"text": 3}', "line 2.*'text' is a int"),
    ],
)
def test_a_broken_record_is_named_by_its_line(tmp_path, line, message):
    path = tmp_path / "r.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(InputError, match=message):
        read_jsonl(path, {"text": str})


def test_no_record_at_all_is_an_error(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("\n\n")
    with pytest.raises(InputError, match="holds no record"):
        read_jsonl(path)


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1.5}
    path.write_text("{\n 'a'")
    with pytest.raises(InputError, match=r"a\.json, line 2: not valid JSON"):
        read_json(path)
