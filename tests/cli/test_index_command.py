"""`llmwright index` on folders where some files cannot be read: what is said, and the exit code."""

from __future__ import annotations

import json


def test_what_cannot_be_read_is_told_and_the_rest_is_indexed(llmwright, tiny_bert, tmp_path):
    folder, out = tmp_path / "docs", tmp_path / "index"
    folder.mkdir()
    (folder / "a.md").write_text("# A ship\n\nIt sails.")
    (folder / "b.pdf").write_bytes(b"%PDF-1.7\nbroken")
    (folder / "c.docx").write_bytes(b"PK\x03\x04")
    (folder / "d.txt").write_text("A cat.")
    command = ("index", folder, "--out", out, "--embedder", tiny_bert)
    code, said, errors = llmwright(*command)
    assert code == 3
    assert "2 added" in said and "2 documents" in said
    assert f"skipped {folder / 'b.pdf'}: is not a PDF that can be read" in errors
    assert f"skipped {folder / 'c.docx'}: is not a Word document" in errors
    code, said, _ = llmwright(*command, "--json")
    record = json.loads(said)
    assert code == 3 and record["unchanged"] == 2
    assert [entry["where"] for entry in record["skipped"]] == [
        str(folder / "b.pdf"), str(folder / "c.docx"),
    ]  # fmt: skip
    assert all("; " in entry["reason"] for entry in record["skipped"])


def test_an_empty_file_is_told_and_is_no_failure(llmwright, tiny_bert, tmp_path):
    (tmp_path / "a.md").write_text("Some text.")
    (tmp_path / "b.txt").write_text(" \n")
    command = ("index", tmp_path / "a.md", tmp_path / "b.txt", "--out", tmp_path / "index")
    code, said, errors = llmwright(*command, "--embedder", tiny_bert)
    assert code == 0 and "1 added" in said
    assert "skipped b.txt: holds no text, and is left out." in errors


def test_where_nothing_can_be_read_no_folder_is_made(llmwright, tmp_path):
    for name in ("a.pdf", "b.pdf"):
        (tmp_path / name).write_bytes(b"broken")
    out = tmp_path / "index"
    code, _, errors = llmwright("index", tmp_path / "a.pdf", "--out", out)
    assert code == 2 and errors.startswith("error: ") and "a.pdf: is not a PDF" in errors
    code, _, errors = llmwright("index", tmp_path / "a.pdf", tmp_path / "b.pdf", "--out", out)
    assert code == 2 and "error: none of 2 files can be read; mend or remove them." in errors
    assert errors.count("skipped ") == 2 and not out.exists()
