"""Plain text: the file as it is, with line ends as ``\\n``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llmwright.core import Document, read_text


def with_unix_lines(text: str) -> str:
    """Make every ``\\r\\n`` and ``\\r`` a ``\\n``."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_plain_text(path: Path) -> Iterator[Document]:
    """Read a UTF-8 text file. Raises ``InputError`` with the line that is not UTF-8."""
    yield Document(id="", text=with_unix_lines(read_text(path)), title=path.stem)
