import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import (
    InputError,
    append_jsonl,
    atomic_folder,
    atomic_write,
    read_json,
    read_jsonl,
    read_located_jsonl,
    read_text,
    reading,
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
    for write in (atomic_write, atomic_folder):
        path = tmp_path / "file" / "x"
        with pytest.raises(InputError, match=rf"^{path}: cannot write here"), write(path):
            raise AssertionError("the block must not run")


def test_text_that_is_not_utf8_names_its_line(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"one\ntwo\ncaf\xe9\n")
    with pytest.raises(InputError) as caught:
        read_text(path)
    assert str(caught.value) == (f"{path}, line 3: byte 0xe9 is not UTF-8; save the file as UTF-8.")
    for content, line in {b"\xe9": 1, b"\n\xe9": 2}.items():
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"line {line}: byte 0xe9"):
            read_text(path)


def test_a_byte_order_mark_is_dropped(tmp_path):
    path = tmp_path / "bom.txt"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert read_text(path) == "hello"


records = st.lists(
    st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none(), st.booleans())),
    min_size=1,
)


@settings(max_examples=30, deadline=None)
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


OBJECT = "each line must hold one JSON object"


@pytest.mark.parametrize(
    ("line", "what", "fix"),
    [
        (
            '{"text": "a"',
            "not valid JSON: Expecting ',' delimiter",
            OBJECT.replace("one", "one whole"),
        ),
        ("[1]", "holds a list", OBJECT),
        ("null", "holds null", OBJECT),
        ('{"text": "a"}', "the field 'n' is missing", "it must be a text"),
        ('{"text": 3, "n": "b"}', "the field 'text' is a number", "it must be a text"),
        ('{"text": 3.5, "n": "b"}', "the field 'text' is a number", "it must be a text"),
        ('{"text": "", "n": true}', "the field 'n' is true", "it must be a text"),
        ('{"text": "", "n": {}}', "the field 'n' is an object", "it must be a text"),
    ],
)
def test_a_broken_record_is_named_by_its_line(tmp_path, line, what, fix):
    path = tmp_path / "r.jsonl"
    path.write_text(f'{{"text": "fine", "n": "1"}}\n\n \n{line}\n')
    with pytest.raises(InputError) as caught:
        read_jsonl(path, "text", "n")
    assert (caught.value.where, caught.value.what, caught.value.fix) == (
        f"{path}, line 4",
        what,
        fix,
    )


def test_each_record_knows_where_it_stands(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('\n{"a": 1}\n\n{"a": "\u2028"}')
    expected = [(f"{path}, line 2", {"a": 1}), (f"{path}, line 4", {"a": "\u2028"})]
    assert read_located_jsonl(path) == expected
    assert read_located_jsonl(path) == expected


def test_no_record_at_all_is_an_error(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("\n\n")
    with pytest.raises(InputError) as caught:
        read_jsonl(path)
    assert str(caught.value) == f"{path}: holds no record; write one JSON object a line."


def test_a_file_that_is_not_there_is_one_sentence(tmp_path):
    path = tmp_path / "none.txt"
    for read in (read_text, read_json, read_jsonl):
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path}: cannot be read (No such file or directory); check the path and its permissions."
        )
    with pytest.raises(InputError, match="cannot be read"), reading(path):
        raise OSError("no words of the system")


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    path = tmp_path / "r.jsonl"
    for write in (write_jsonl, append_jsonl):
        with pytest.raises(InputError) as caught:
            write(path, [{"a": 1}] if write is write_jsonl else {"a": 1})
        assert str(caught.value) == (
            f"{path}: cannot write here (No space left on device); "
            "choose a folder you may write to, with enough space left."
        )


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1.5}
    path.write_text("{\n 'a'")
    with pytest.raises(InputError) as caught:
        read_json(path)
    assert caught.value.where == f"{path}, line 2"
    assert caught.value.what.startswith("not valid JSON: Expecting property name")
    assert caught.value.fix == "look at column 2"
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_jsonl(path, {"a": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_jsonl(path, [{"a": float("nan")}])


def test_json_is_written_for_people_and_programs(tmp_path):
    write_json(tmp_path / "deep" / "a.json", {"é": [1]})
    assert (tmp_path / "deep" / "a.json").read_text() == '{\n  "é": [\n    1\n  ]\n}\n'
    write_jsonl(tmp_path / "a.jsonl", [{"é": 1}, {"b": 2}])
    append_jsonl(tmp_path / "a.jsonl", {"ü": 3})
    assert (tmp_path / "a.jsonl").read_text() == '{"é": 1}\n{"b": 2}\n{"ü": 3}\n'


def test_who_may_read_what_was_written(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with atomic_folder(tmp_path / "more" / "folder"):
        pass
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "more" / "folder").stat().st_mode & 0o777 == 0o755


def test_the_temporary_file_lies_beside_its_target_and_is_hidden(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    for write in (atomic_write, atomic_folder):
        with write(target) as temporary:
            assert temporary.parent == target.parent
            assert temporary.name.startswith(".a.txt.")
            if write is atomic_write:
                temporary.write_text("new")


def test_a_file_elsewhere_that_fails_is_not_called_a_failed_write(tmp_path):
    elsewhere = tmp_path / "elsewhere" / "missing"
    with pytest.raises(FileNotFoundError) as failed, atomic_write(tmp_path / "out" / "made"):
        elsewhere.read_bytes()
    assert failed.value.filename == str(elsewhere)
    with (
        pytest.raises(InputError, match="cannot write here"),
        atomic_write(tmp_path / "out" / "made") as temporary,
    ):
        (temporary.parent / "gone" / "x").write_bytes(b"")
