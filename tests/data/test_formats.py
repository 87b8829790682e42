"""HTML, PDF and Word: what was written with the format's own tools is read back."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docx
import pytest
from fpdf import FPDF
from fpdf.enums import AccessPermission, EncryptionMethod

from llmwright.core import Document, InputError
from llmwright.data import read_documents
from llmwright.data.readers import docx as docx_reader
from llmwright.data.readers.html import read_html
from llmwright.data.readers.jsonl import read_jsonl_documents
from llmwright.data.readers.markdown import read_markdown
from llmwright.data.readers.pdf import read_pdf
from llmwright.data.readers.text import read_plain_text


def read(path: Path) -> Document:
    (document,) = read_documents([path])
    return document


def headings(document: Document) -> list[tuple[int, str, str]]:
    """Level, anchor and the line that the section starts with."""
    return [
        (s.level, s.anchor, document.text[s.start : s.end].split("\n")[0])
        for s in document.sections
    ]


PAGE = """<!doctype html><html><head><title> My
 page </title><style>p {color: red}</style></head><body>
<nav><a href="/">menu</a></nav><h1 id="top">Hello <em>wor</em>ld</h1>
<p>One<br>two &amp; <b>thr</b>ee<!-- not this --></p><p hidden>nor this</p>
<ul><li>alpha<li><p>beta</p></ul>
<table><thead><tr><th>a<th>b</tr></thead><tr><td>1<td><p>2</p></tr></table>
<h2>Sub part</h2><pre>
 def f():
   pass
</pre><script>bad()</script><h2>Sub part</h2>tail</body></html>"""


def test_html(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text(PAGE)
    document = read(path)
    assert document.title == "My page"
    assert document.text == (
        "Hello world\n\nOne\ntwo & three\n\n- alpha\n- beta\n\na | b\n1 | 2\n\n"
        "Sub part\n\n def f():\n   pass\n\nSub part\n\ntail"
    )
    assert headings(document) == [
        (1, "top", "Hello world"),
        (2, "sub-part", "Sub part"),
        (2, "sub-part-1", "Sub part"),
    ]


def test_html_in_the_encoding_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "a.htm"
    path.write_bytes('<meta charset="windows-1251"><p>Привет, мир</p>'.encode("cp1251"))
    assert read(path).text == "Привет, мир"
    path.write_bytes(b'<meta charset="koi-none"><p>x</p>')
    with pytest.raises(InputError, match="encoding 'koi-none' that it declares"):
        read(path)
    path.write_bytes("<p>one</p>\n<p>Привет</p>".encode("cp1251"))
    with pytest.raises(InputError, match="line 2: byte"):
        read(path)


def test_html_that_lays_out_with_tables_keeps_its_headings(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<table><tr><td><h1>T</h1><p>one</p></td><td><p>two</p></td></tr></table>")
    document = read(path)
    assert document.text == "T\n\none\n\ntwo"
    assert headings(document) == [(1, "t", "T")]


def test_html_may_nest_deeper_than_python_calls(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<div>" * 3000 + "deep" + "</div>" * 3000)
    assert read(path).text == "deep"


def test_html_without_visible_text(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<div id=app></div><script>render()</script>")
    with pytest.raises(InputError, match="holds no visible text"):
        read(path)


def pdf(path: Path, *pages: str, password: str = "", owner: str = "") -> Path:
    writer = FPDF()
    writer.set_title("Written here")
    writer.set_font("helvetica", size=12)
    for page in pages:
        writer.add_page()
        if page:
            writer.multi_cell(0, text=page)
        else:
            writer.rect(20, 20, 50, 50)  # a drawing, as a scanned page would be
    if password or owner:
        writer.set_encryption(
            owner_password=owner or password,
            user_password=password,
            permissions=AccessPermission.none(),
            encryption_method=EncryptionMethod.RC4,
        )
    writer.output(str(path))
    return path


def test_pdf(tmp_path: Path) -> None:
    document = read(pdf(tmp_path / "a.pdf", "The first page.\nIts second line.", "", "The third."))
    assert document.title == "Written here"
    assert document.text == "The first page.\nIts second line.\n\nThe third."
    assert document.metadata == {"pages": "3", "pages_without_text": "2"}
    assert headings(document) == [
        (1, "page=1", "The first page."),
        (1, "page=3", "The third."),
    ]


def test_pdf_that_forbids_only_copying_is_read(tmp_path: Path) -> None:
    assert read(pdf(tmp_path / "a.pdf", "Open to all.", owner="secret")).text == "Open to all."


def test_pdf_that_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no text layer .*run OCR on it first"):
        read(pdf(tmp_path / "scan.pdf", "", ""))
    with pytest.raises(InputError, match=r"locked\.pdf: is encrypted"):
        read(pdf(tmp_path / "locked.pdf", "Secret.", password="secret"))
    whole = pdf(tmp_path / "whole.pdf", "Some text.").read_bytes()
    for name, raw in {"cut": whole[:300], "junk": b"%PDF-1.7\n" + b"\x00junk" * 50}.items():
        path = tmp_path / f"{name}.pdf"
        path.write_bytes(raw)
        with pytest.raises(InputError, match=rf"{name}\.pdf: is not a PDF that can be read"):
            read(path)
    (tmp_path / "empty.pdf").write_bytes(b"")
    with pytest.raises(InputError, match="is not a PDF that can be read"):
        read(tmp_path / "empty.pdf")


def test_docx(tmp_path: Path) -> None:
    word = docx.Document()
    word.add_heading("The title", level=0)
    word.add_heading("Part", level=1)
    word.add_paragraph("A paragraph with ").add_run("bold").bold = True
    word.add_paragraph("alpha", style="List Bullet")
    word.add_paragraph("beta", style="List Bullet")
    word.add_heading("Table", level=2)
    table = word.add_table(rows=2, cols=3)
    for row, cells in zip(table.rows, [("a", "b", "c"), ("1", "2", "3")], strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    table.rows[1].cells[1].merge(table.rows[1].cells[2])
    word.add_paragraph("Конец.")
    word.save(str(tmp_path / "a.docx"))
    document = read(tmp_path / "a.docx")
    assert document.title == "The title"
    assert document.text == (
        "The title\n\nPart\n\nA paragraph with bold\n\n- alpha\n- beta\n\n"
        "Table\n\na | b | c\n1 | 2 3\n\nКонец."
    )
    assert headings(document) == [
        (1, "the-title", "The title"),
        (1, "part", "Part"),
        (2, "table", "Table"),
    ]


def test_docx_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    word = docx.Document()
    word.add_paragraph("Some text.")
    path = tmp_path / "a.docx"
    word.save(str(path))
    whole = path.read_bytes()
    for raw in (whole[: len(whole) // 2], b"\xd0\xcf\x11\xe0 an old or protected file", b""):
        path.write_bytes(raw)
        with pytest.raises(InputError, match=r"a\.docx: is not a Word document"):
            read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "a zip, but not Word's")
    with pytest.raises(InputError, match="is not a Word document"):
        read(path)


def test_docx_that_unpacks_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docx_reader, "MAX_UNPACKED", 1 << 20)
    path = tmp_path / "bomb.docx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b" " * (2 << 20))
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match="would unpack to 2 MB, more than the 1 allowed"):
        read(path)


@pytest.mark.parametrize(
    "reader",
    [
        docx_reader.read_docx,
        read_html,
        read_jsonl_documents,
        read_markdown,
        read_pdf,
        read_plain_text,
    ],
)
def test_what_the_system_does_not_let_us_read_is_one_sentence(
    tmp_path: Path, reader: Callable[[Path], Iterator[Document]]
) -> None:
    for path, why in ((tmp_path / "gone", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=rf"cannot be read \({why}.*check the path") as caught:
            list(reader(path))
        assert caught.value.where == str(path)
