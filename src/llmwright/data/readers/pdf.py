"""PDF: the text layer, page by page. Each page is a section with the anchor ``page=N``, the
fragment that opens a PDF at that page in a browser (RFC 8118)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from pypdf import PasswordType, PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError

from llmwright.core import Document, InputError, reading
from llmwright.data.readers.sections import Heading, to_sections

# It tells the whole world about every repaired byte; what cannot be read raises anyway.
logging.getLogger("pypdf").setLevel(logging.ERROR)


def read_pdf(path: Path) -> Iterator[Document]:
    """Read a PDF's text. Metadata: ``pages``, and ``pages_without_text`` where some have none.

    Raises ``InputError`` where the file is encrypted, broken or holds no text at all.
    """
    try:
        with reading(path):
            pages, title = _extract(path)
    except InputError:
        raise
    except (DependencyError, FileNotDecryptedError) as error:
        raise _encrypted(path) from error
    # A broken file fails anywhere in the parser, with whatever exception the spot raises.
    except Exception as error:
        raise InputError(
            f"is not a PDF that can be read ({type(error).__name__}: {error})",
            where=str(path),
            fix="open it in a viewer and save or print it to a new PDF",
        ) from error
    empty = [number for number, page in enumerate(pages, start=1) if not page]
    if len(empty) == len(pages):
        raise InputError(
            "holds no text layer (scanned pages are pictures)",
            where=str(path),
            fix="run OCR on it first, for instance with ocrmypdf",
        )
    headings, start = [], 0
    for number, page in enumerate(pages, start=1):
        if page:
            headings.append(Heading(f"Page {number}", f"page={number}", 1, start))
            start += len(page) + 2
    text = "\n\n".join(page for page in pages if page)
    metadata = {"pages": str(len(pages))}
    if empty:
        metadata["pages_without_text"] = ", ".join(map(str, empty))
    yield Document(
        id="",
        text=text,
        title=title or path.stem,
        sections=to_sections(headings, len(text)),
        metadata=metadata,
    )


def _extract(path: Path) -> tuple[list[str], str]:
    with path.open("rb") as file:
        reader = PdfReader(file)
        # Many a PDF forbids only printing or copying and opens with the empty password.
        if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
            raise _encrypted(path)
        pages = [_clean(page.extract_text()) for page in reader.pages]
        title = reader.metadata.title if reader.metadata else None
    return pages, _clean(title or "")


def _encrypted(path: Path) -> InputError:
    return InputError(
        "is encrypted",
        where=str(path),
        fix="save a copy without a password, for instance with qpdf --decrypt",
    )


def _clean(text: str) -> str:
    """Join surrogate pairs and replace lone ones, which no file can hold; drop NUL."""
    text = text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()
