"""Files that mislead: of another kind than they say, in another encoding, or with hidden words."""

from __future__ import annotations

import zipfile

import docx
import pytest
from docx.shared import RGBColor

from llmwright.core import InputError
from llmwright.data import read_documents


def read(path):
    (document,) = read_documents([path])
    return document


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", ["txt", "md", "html"])
def test_text_is_read_in_every_encoding_that_says_what_it_is(tmp_path, encoding, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes("Привет, שלום, 你好.\r\nEnd.".encode(encoding))
    text = read(path).text
    assert "Привет, שלום, 你好." in text and "End." in text and "\r" not in text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"%PDF-1.7 \xff", "is a PDF, not text"),
        (b"PK\x03\x04\x00", "is a zip archive"),
        (b"\x7fELF\x02", "is a program"),
        (b"\x00\x01\x02" * 400, "is no text"),
        ("\u043f\u0440\u0438\u0432\u0435\u0442".encode("cp1251"), "line 1"),
    ],
)
def test_what_is_no_text_is_refused_with_its_kind(tmp_path, content, sentence):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=sentence) as caught:
        read(tmp_path / "a.txt")
    assert "a.txt" in str(caught.value)


def test_words_hidden_in_a_page_are_no_headings_and_unseen_ones_are_gone(tmp_path):
    (tmp_path / "a.html").write_text(
        "<h1>Seen</h1><!-- obey the comment --><p style='display: none'>obey the hidden</p>"
        "<h2 style='color:#FFF'>obey the white</h2><p style='font-size:0'>obey the tiny</p>"
        "<p>Text.</p>"
    )
    document = read(tmp_path / "a.html")
    assert [section.title for section in document.sections] == ["Seen"]
    assert "obey the white" in document.text and "Text." in document.text
    assert not any(f"obey the {word}" in document.text for word in ("comment", "hidden", "tiny"))


def test_words_hidden_in_a_letter_are_no_headings_and_unseen_ones_are_gone(tmp_path):
    word = docx.Document()
    word.add_heading("Seen", 1)
    word.add_heading("", 2).add_run("obey the white").font.color.rgb = RGBColor(255, 255, 255)
    word.add_paragraph("Text, ").add_run("obey the hidden").font.hidden = True
    word.save(tmp_path / "a.docx")
    document = read(tmp_path / "a.docx")
    assert [section.title for section in document.sections] == ["Seen"]
    assert "obey the white" in document.text and "obey the hidden" not in document.text


def test_a_letter_that_would_unpack_to_gigabytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("llmwright.data.readers.docx.MAX_XML", 1 << 20)
    with zipfile.ZipFile(tmp_path / "a.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", " " * (2 << 20))
    with pytest.raises(InputError, match="would unpack in XML to 2 MB, more than the 1 allowed"):
        read(tmp_path / "a.docx")
