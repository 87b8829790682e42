"""Folders and files to documents: ids, order, filters, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmwright.core import InputError
from llmwright.data import read_documents


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def ids(*paths: Path, **options: list[str]) -> list[str]:
    return [document.id for document in read_documents(paths, **options)]


def test_a_folder_is_read_in_sorted_order_without_hidden_files(tmp_path: Path) -> None:
    root = write(tmp_path, b_md="# B", a__z_txt="z", a_md="# A", a__c__d_MD="d", x_png="no")
    write(tmp_path, **{"_git__y_md": "hidden", "a___h_md": "hidden"})
    assert ids(root) == ["a/c/d.MD", "a/z.txt", "a.md", "b.md"]


def test_identity_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    one = write(tmp_path / "one", guide__a_md="# Привет\n\nТекст на русском языке.\n")
    two = write(tmp_path / "two", guide__a_md="# Привет\n\nТекст на русском языке.\n")
    first, second = next(read_documents([one])), next(read_documents([two]))
    assert first == second
    assert (first.id, first.source) == ("guide/a.md", "guide/a.md")
    assert (first.language, first.title) == ("ru", "Привет")


def test_single_files_go_by_their_name(tmp_path: Path) -> None:
    root = write(tmp_path, deep__note_txt="hello")
    assert ids(root / "deep" / "note.txt") == ["note.txt"]
    # A named file is read whatever the filter for folders says.
    assert ids(root / "deep" / "note.txt", include=["*.md"]) == ["note.txt"]


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        (["*.md"], ["g/s/c.md", "g/b.md", "a.md"]),
        (["**/*.md"], ["g/s/c.md", "g/b.md", "a.md"]),
        (["g/*.md"], ["g/b.md"]),
        (["g/**"], ["g/s/c.md", "g/b.md", "g/d.txt"]),
        (["?.txt", "a.*"], ["g/d.txt", "a.md"]),
        ([], ["g/s/c.md", "g/b.md", "g/d.txt", "a.md"]),
    ],
)
def test_include(tmp_path: Path, include: list[str], expected: list[str]) -> None:
    root = write(tmp_path, a_md="a", g__b_md="b", g__s__c_md="c", g__d_txt="d")
    assert sorted(ids(root, include=include)) == sorted(expected)


def test_the_same_file_given_twice_counts_once(tmp_path: Path) -> None:
    root = write(tmp_path, a_md="a")
    assert ids(root, root, root / "a.md") == ["a.md"]


def test_ids_that_collide_name_both_files(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", a_md="a"), write(tmp_path / "two", a_md="b")
    with pytest.raises(InputError, match=r"two/a\.md: the document id 'a\.md' .*one/a\.md"):
        ids(one, two)


def test_what_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"no document .*endings read: \.md, .*\.pdf, \.docx"):
        ids(empty)
    root = write(tmp_path, a_md="a", b_xyz="b")
    with pytest.raises(InputError, match=r"b\.xyz: files of the kind '\.xyz' are not read"):
        ids(root / "b.xyz")
    with pytest.raises(InputError, match=r"'\*\.xyz' asks for files that are not read"):
        ids(root, include=["*.xyz"])
    with pytest.raises(InputError, match="does not exist"):
        ids(tmp_path / "missing")
    with pytest.raises(InputError, match="no documents are named"):
        ids()


def test_text_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "old.txt"
    path.write_bytes("one\ntwo\nпривет".encode("cp1251"))
    with pytest.raises(InputError, match=r"old\.txt, line 3: byte 0x\w\w is not UTF-8"):
        ids(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_rights(tmp_path: Path) -> None:
    root = write(tmp_path, a_md="a", s__b_md="b")
    (root / "s").chmod(0)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            ids(root)
    finally:
        (root / "s").chmod(0o755)


def test_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert next(read_documents([tmp_path])).text == "one\ntwo\nthree\n"


def test_jsonl_keeps_ids_and_turns_plain_fields_into_metadata(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(
        '{"id": "d1", "text": "One text.", "title": "One", "year": 2020, "by": "A", "x": [1]}\n'
        "\n"
        '{"id": "d2", "text": "Zwei \\ud800", "language": "de", "ok": true, "none": null}\n',
        encoding="utf-8",
    )
    one, two = read_documents([tmp_path])
    assert (one.id, one.title, one.source, one.language) == ("d1", "One", "corpus.jsonl", "en")
    assert one.metadata == {"year": "2020", "by": "A"}
    assert (two.id, two.text, two.language) == ("d2", "Zwei ?", "de")
    assert two.metadata == {"ok": "true"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b"', "line 2: not valid JSON"),
        ('{"id": "b"}', "line 2: the field 'text' is missing"),
        ('{"id": 1, "text": "b"}', "line 2: the field 'id' is a number"),
        ('{"id": " ", "text": "b"}', "line 2: the field 'id' is empty"),
        ('{"id": "a", "text": "b"}', "line 2: the id 'a' is taken by .*, line 1"),
        ('{"id": "b", "text": "b", "title": 3}', "line 2: the field 'title' is a number"),
        ("[1]", "line 2: holds a list"),
    ],
)
def test_jsonl_that_is_wrong_names_the_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": "a", "text": "first"}\n' + line + "\n")
    with pytest.raises(InputError, match=message):
        ids(path)


def test_jsonl_and_files_share_one_space_of_ids(tmp_path: Path) -> None:
    write(tmp_path, a_md="a")
    (tmp_path / "b.jsonl").write_text('{"id": "a.md", "text": "b"}\n')
    with pytest.raises(InputError, match=r"b\.jsonl: the document id 'a\.md' is taken by .*a\.md"):
        ids(tmp_path)
