"""Plain text: the file as it is, with line ends as ``\\n``.

UTF-8, or UTF-16 and UTF-32 where a byte order mark says so. Nothing is guessed: a file in another
encoding is refused with the line that shows it, and so is one that is no text at all.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from llmwright.core import Document, InputError, read_text, reading

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_KINDS = {
    b"%PDF-": "a PDF",
    b"PK\x03\x04": "a zip archive, as Word files are",
    b"\x89PNG": "a picture",
    b"GIF8": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"\x7fELF": "a program",
    b"\x1f\x8b": "a compressed file",
}
_STRAY = 4  # NULs that a text may hold; more than one in a thousand characters is no text


def with_unix_lines(text: str) -> str:
    """Make every ``\\r\\n`` and ``\\r`` a ``\\n``."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_any_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, with unix line
    ends. Raises ``InputError`` where it is in no such encoding, or no text."""
    with reading(path), path.open("rb") as file:
        head = file.read(8)
    for sign, kind in _KINDS.items():
        if head.startswith(sign):
            raise InputError(
                f"is {kind}, not text",
                where=str(path),
                fix="give it its own ending, or leave it out",
            )
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return with_unix_lines(_decode(path, encoding))
    text = read_text(path)
    nuls = text.count("\0")
    if nuls * 10 > len(text) or (nuls > _STRAY and nuls * 1000 > len(text)):
        raise InputError(
            f"is no text ({nuls} of its {len(text)} characters are NUL)",
            where=str(path),
            fix="leave it out, or save it as UTF-8 if it is UTF-16 without a byte order mark",
        )
    return with_unix_lines(text)


def _decode(path: Path, encoding: str) -> str:
    with reading(path):
        raw = path.read_bytes()
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"begins with the byte order mark of {encoding.upper()} and is not in it "
            f"(byte {error.start})",
            where=str(path),
            fix="save the file as UTF-8",
        ) from error


def read_plain_text(path: Path) -> Iterator[Document]:
    """Read a text file. Raises ``InputError`` as ``read_any_text`` does."""
    yield Document(id="", text=read_any_text(path), title=path.stem)
