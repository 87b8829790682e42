"""Markdown: the text stays the file's own, the headings are found by a CommonMark parser.

A parser and not a pattern, because ``# comment`` inside a code fence is no heading while
``Title`` over ``=====`` is one. CommonMark 0.31 (https://spec.commonmark.org) by markdown-it-py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from llmwright.core import Document, Section
from llmwright.data.readers.sections import Anchors, Heading, to_sections
from llmwright.data.readers.text import read_any_text

_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(?P<body>(?:[ \t]*(?:#.*)?\n)*[\w-]+[ \t]*:.*?\n|)(?:---|\.\.\.)[ \t]*(?:\n|\Z)",
    re.DOTALL,
)
_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE)


def read_markdown(path: Path) -> Iterator[Document]:
    """Read a Markdown file; its title is that of the front matter, else the first heading of
    level 1, else the file's name. Raises ``InputError`` where it is no text that can be read."""
    text = read_any_text(path)
    front = _FRONT_MATTER.match(text)
    sections = find_sections(text)
    top = next((section.title for section in sections if section.level == 1), "")
    named = _TITLE.search(front["body"]) if front else None
    title = named[1].strip("\"'") if named else top
    yield Document(id="", text=text, title=title or path.stem, sections=sections)


def find_sections(text: str) -> tuple[Section, ...]:
    """The sections of a Markdown text whose line ends are ``\\n``.

    Headings inside quotations and lists take up their anchors, as on GitHub, but start no
    section: what follows the quotation does not belong to them.
    """
    if front := _FRONT_MATTER.match(text):  # blank it, so that line numbers stay
        text = re.sub(r"[^\n]", " ", front[0]) + text[front.end() :]
    # The offset at which each line starts.
    starts = list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))
    tokens = MarkdownIt("commonmark").parse(text)
    anchors = Anchors()
    headings = []
    for token, inline in pairwise(tokens):
        if token.type != "heading_open":
            continue
        title = _plain(inline)
        anchor = anchors.add(title)
        if token.level == 0 and token.map:
            headings.append(Heading(title, anchor, int(token.tag[1]), starts[token.map[0]]))
    return to_sections(headings, len(text))


def _plain(inline: Token) -> str:
    """The heading as it is read: without emphasis marks, link targets and pictures."""
    pieces = []
    for child in inline.children or ():
        if child.type in ("text", "code_inline", "text_special"):
            pieces.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            pieces.append(" ")
    return "".join(pieces).strip()
