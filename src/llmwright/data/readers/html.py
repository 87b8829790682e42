"""HTML: what a reader would see, as plain text with its headings.

Scripts, styles, comments, navigation and hidden parts go. What is written in white stays as text,
but is no heading: what nobody sees shall not say what a part of the page is about. Blocks are set
apart by empty lines, list items get a dash, table rows become ``cell | cell`` lines, preformatted
text keeps its spaces.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bs4 import BeautifulSoup
from bs4.dammit import EncodingDetector
from bs4.element import CData, NavigableString, Tag

from llmwright.core import Document, InputError, reading
from llmwright.data.readers.sections import TextBuilder
from llmwright.data.readers.text import read_any_text, with_unix_lines

_DROPPED = set(
    """script style template noscript nav head svg math canvas iframe object audio video
    button select textarea input""".split()  # noqa: SIM905
)
_BLOCKS = set(
    """address article aside blockquote body caption dd details div dl dt fieldset figcaption
    figure footer form h1 h2 h3 h4 h5 h6 header hr html li main ol p pre section summary table
    tbody td tfoot th thead tr ul""".split()  # noqa: SIM905
)
# A row that holds one of these lays out a page; it is no row of data.
_NOT_IN_DATA = ["table", "h1", "h2", "h3", "h4", "h5", "h6", "pre"]
_UNSEEN = re.compile(
    r"(?:^|;)(?:display:none|visibility:hidden|opacity:0(?![.\d])|font-size:0(?![.\d]))"
)
_WHITE = re.compile(r"(?:^|;)color:(?:white|transparent|#fff(?:fff)?\b|rgba?\(255,255,255)")
_ANCHORS_LOOK = 64  # elements in a heading that may hold its anchor
_LINE_BREAK = "\0"  # cannot stand in parsed HTML


def read_html(path: Path) -> Iterator[Document]:
    """Read an HTML file, in the encoding it declares or else UTF-8.

    Raises ``InputError`` where the bytes are not in that encoding or no text is visible.
    """
    # "html.parser" would keep what lxml repairs: unclosed tags, stray ends.
    soup = BeautifulSoup(_decode(path), "lxml")
    builder = TextBuilder()
    _Walker(builder).walk(soup)
    text, sections = builder.build()
    if not text:
        raise InputError(
            "holds no visible text",
            where=str(path),
            fix="save the page as the browser shows it, or leave the file out",
        )
    heading = next((s.title for s in sections if s.level == 1), "")
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    yield Document(id="", text=text, title=title or heading or path.stem, sections=sections)


def _decode(path: Path) -> str:
    with reading(path):
        raw = path.read_bytes()
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # before what is declared
        return read_any_text(path)
    declared = EncodingDetector.find_declared_encoding(raw[:2048], is_html=True) or "utf-8"
    if declared.lower().replace("_", "-") in ("utf-8", "utf8", "us-ascii", "ascii"):
        return read_any_text(path)
    try:
        return with_unix_lines(raw.decode(declared))
    except (LookupError, UnicodeDecodeError) as error:
        raise InputError(
            f"is not in the encoding {declared!r} that it declares",
            where=str(path),
            fix="save the file as UTF-8 and declare that",
        ) from error


class _Walker:
    """Goes through the tree with a stack of its own: a page may nest deeper than Python calls."""

    def __init__(self, builder: TextBuilder) -> None:
        self.builder = builder
        self.inline: list[str] = []  # text of the block that is being read
        self.prefix = ""  # "- " until the first text of a list item
        self.tight = False  # items and rows stand on the next line, without an empty one
        self.in_row = 0
        self.white = 0  # elements around that are written in white

    def walk(self, root: Tag) -> None:
        stack: list[tuple[Tag | NavigableString, bool]] = [(root, False)]
        while stack:
            node, leaving = stack.pop()
            if isinstance(node, NavigableString):
                if type(node) in (NavigableString, CData):  # not a comment or declaration
                    self.inline.append(str(node))
            elif leaving:
                self.leave(node)
            elif self.enter(node):
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(node.contents))  # type: ignore[misc]
        self.flush()

    def enter(self, tag: Tag) -> bool:
        """Start an element; False leaves its content out."""
        if (
            tag.name in _DROPPED
            or tag.has_attr("hidden")
            or tag.get("aria-hidden") == "true"
            or tag.get("role") == "navigation"
            or _UNSEEN.search(_style(tag))
        ):
            return False
        if tag.name == "br":
            self.inline.append(_LINE_BREAK)
        elif tag.name == "pre":
            self.flush()
            self.builder.add(tag.get_text().strip("\n"))
            return False
        elif self.in_row:
            if tag.name in ("td", "th") and "".join(self.inline).strip():
                self.inline.append(" | ")
            elif tag.name in _BLOCKS:
                self.inline.append(" ")
        elif tag.name in _BLOCKS:
            self.flush()
            if tag.name in ("li", "tr", "dd") and tag.find_previous_sibling() is not None:
                self.tight = True
            if tag.name == "li":
                self.prefix = "- "
        if tag.name == "tr" and (self.in_row or tag.find(_NOT_IN_DATA) is None):
            self.in_row += 1
        self.white += _is_white(tag)
        return True

    def leave(self, tag: Tag) -> None:
        white = self.white
        self.white -= _is_white(tag)
        if tag.name == "tr" and self.in_row:
            self.in_row -= 1
        if self.in_row:
            if tag.name in _BLOCKS:
                self.inline.append(" ")
        elif tag.name in ("h1", "h2", "h3", "h4", "h5", "h6") and not white:
            near = (t for t in islice(tag.descendants, _ANCHORS_LOOK) if isinstance(t, Tag))
            anchor = tag.get("id") or next((t["id"] for t in near if t.has_attr("id")), "")
            self.builder.add_heading(self.take(), int(tag.name[1]), str(anchor))
        elif tag.name in _BLOCKS:
            self.flush()
            if tag.name in ("li", "tr", "dd"):  # an empty one passes nothing on
                self.prefix, self.tight = "", False

    def take(self) -> str:
        lines = ("".join(self.inline)).split(_LINE_BREAK)
        self.inline.clear()
        return "\n".join(" ".join(line.split()) for line in lines).strip()

    def flush(self) -> None:
        if block := self.take():
            self.builder.add(self.prefix + block, "\n" if self.tight else "\n\n")
            self.prefix, self.tight = "", False


def _style(tag: Tag) -> str:
    """The element's own style without white space, in lower case."""
    return "".join(str(tag.get("style", "")).lower().split())


def _is_white(tag: Tag) -> bool:
    return _WHITE.search(_style(tag)) is not None
