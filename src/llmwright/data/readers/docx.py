"""Word: paragraphs, headings, lists and tables of the main text, in their order.

A table row becomes a ``cell | cell`` line. Headers, footers, footnotes and comments stay out, and
so does text that is marked as hidden. A heading written in white is read as text and not as a
heading: what nobody sees shall not say what a part of the document is about.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import docx
from docx.document import Document as WordDocument
from docx.oxml.ns import qn
from docx.table import Table, _Cell
from docx.text.hyperlink import Hyperlink
from docx.text.paragraph import Paragraph

from llmwright.core import Document, InputError, reading
from llmwright.data.readers.sections import TextBuilder

# A few hundred bytes of a zip can unpack to gigabytes; real text stays far under this.
MAX_UNPACKED = 256 << 20
# The tree of an XML part takes ten times its bytes; pictures are not parsed.
MAX_XML = 64 << 20
_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)


def read_docx(path: Path) -> Iterator[Document]:
    """Read a Word file (.docx). Raises ``InputError`` where it is broken, protected by a
    password, or would unpack to more than ``MAX_UNPACKED`` bytes, ``MAX_XML`` of them XML."""
    word = _open(path)
    styles = _Styles()
    builder = TextBuilder()
    title = ""
    after_list = False
    for block in word.iter_inner_content():
        if isinstance(block, Table):
            builder.add("\n".join(_rows(block)))
            continue
        text = _clean(_visible(block))
        style = styles.name_of(block)
        in_list = style.startswith("List") or _is_numbered(block)
        if (style == "Title" or _HEADING.fullmatch(style)) and _is_white(block):
            builder.add(text)
        elif style == "Title":
            title = title or text
            builder.add_heading(text, 1)
        elif match := _HEADING.fullmatch(style):
            builder.add_heading(text, int(match[1]))
        elif in_list and text:
            builder.add(f"- {text}", "\n" if after_list else "\n\n")
        else:
            builder.add(text)
        after_list = in_list
    text, sections = builder.build()
    title = title or word.core_properties.title or next((s.title for s in sections), path.stem)
    yield Document(id="", text=text, title=title, sections=sections)


def _open(path: Path) -> WordDocument:
    fix = "open it in Word or LibreOffice and save it as .docx without a password"
    try:
        with reading(path), zipfile.ZipFile(path) as archive:
            # zipfile never unpacks a member beyond the size stated here, so the sum is a bound.
            members = archive.infolist()
        _check_size("would unpack", sum(m.file_size for m in members), MAX_UNPACKED, path)
        xml = sum(m.file_size for m in members if m.filename.endswith((".xml", ".rels")))
        _check_size("would unpack in XML", xml, MAX_XML, path)
        with reading(path):
            return docx.Document(str(path))
    except InputError:
        raise
    # Broken parts raise whatever zipfile, lxml or python-docx stumbles over.
    except Exception as error:
        raise InputError(
            f"is not a Word document that can be read ({type(error).__name__}: {error})",
            where=str(path),
            fix=fix,
        ) from error


def _check_size(what: str, size: int, most: int, path: Path) -> None:
    if size > most:
        raise InputError(
            f"{what} to {size >> 20} MB, more than the {most >> 20} allowed",
            where=str(path),
            fix="take out embedded media, or split the document",
        )


class _Styles:
    """Names of styles by their ids: looking one up costs a pass over all styles."""

    def __init__(self) -> None:
        self._known: dict[str | None, str] = {}

    def name_of(self, paragraph: Paragraph) -> str:
        identity = paragraph._p.style
        if identity not in self._known:
            style = paragraph.style
            self._known[identity] = str(style.name or "") if style is not None else ""
        return self._known[identity]


def _visible(paragraph: Paragraph) -> str:
    """The text without the runs that are marked as hidden."""
    if paragraph._p.find(f".//{qn('w:vanish')}") is None:
        return str(paragraph.text)
    pieces = []
    for part in paragraph.iter_inner_content():
        runs = part.runs if isinstance(part, Hyperlink) else [part]
        pieces += [run.text for run in runs if not run.font.hidden]
    return "".join(pieces)


def _is_white(paragraph: Paragraph) -> bool:
    colors = paragraph._p.findall(f".//{qn('w:color')}")
    return any((color.get(qn("w:val")) or "").upper() == "FFFFFF" for color in colors)


def _is_numbered(paragraph: Paragraph) -> bool:
    """Bullets and numbers that come from the paragraph itself and not from its style."""
    properties = paragraph._p.pPr
    return properties is not None and properties.find(qn("w:numPr")) is not None


def _rows(table: Table) -> Iterator[str]:
    for row in table.rows:
        cells = list(dict.fromkeys(cell._tc for cell in row.cells))  # merged cells come repeated
        line = " | ".join(_cell(_Cell(element, table)) for element in cells)
        if line.strip(" |"):
            yield line


def _cell(cell: _Cell) -> str:
    pieces: list[str] = []
    for block in cell.iter_inner_content():
        pieces += _rows(block) if isinstance(block, Table) else [_clean(_visible(block))]
    return " ".join(piece.replace("\n", " ") for piece in pieces if piece)


def _clean(text: str) -> str:
    return "\n".join(line.strip() for line in text.replace("\t", " ").splitlines()).strip()
