"""Chunks that follow the structure of Markdown: fenced code, tables and lists stay whole.

The lines of a section are read as blocks, and neighbouring blocks are packed together while they
fit. A block that does not fit is cut where it hurts least: a fence between the definitions of its
code (``code.py``), a table between its rows, a list between its items, a paragraph recursively.
What is not Markdown reads as paragraphs; a file of source code, known by its ending, is cut as
code from top to bottom.

Blocks are found by a scan of lines, not by a parser of the whole of CommonMark: it keeps nothing
but the block it is in, so a text of any length streams through. What it calls a fence is what
CommonMark 0.31 (section 4.5) calls one outside lists and quotations; inside them, the list or
quotation stays whole instead.

Cost: linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

from llmwright.core import Document
from llmwright.retrieval.chunking.code import LANGUAGES, code_chunks, code_pieces, language_of
from llmwright.retrieval.chunking.packing import Packer
from llmwright.retrieval.chunking.recursive import LINES, PARAGRAPHS, pieces
from llmwright.retrieval.chunking.spans import Count, Part, Span, parts

Kind = Literal["code", "table", "list", "text"]

_FENCE = re.compile(r" {0,3}(?P<marks>`{3,}+(?=[^`\n]*+(?:\n|\Z))|~{3,}+)[ \t]*+(?P<info>[^\n]*+)")
_ITEM = re.compile(r" {0,3}(?:[-*+]|\d{1,9}[.)])(?:[ \t]|\n|\Z)")
_RULE = re.compile(r" {0,3}(?:(?:-[ \t]*){3,}+|(?:\*[ \t]*){3,}+|(?:_[ \t]*){3,}+)(?:\n|\Z)")
_DELIMITERS = re.compile(r" {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*+\|?[ \t]*(?:\n|\Z)")
_LINE = re.compile(r"[^\n]*+(?:\n|\Z)")
_ROW_LOOK = 4096  # characters of a line that may be the second of a table


def structure_spans(document: Document, size: int, overlap: int, count: Count) -> Iterator[Part]:
    """Chunks as spans with their paths of headings."""
    packer = Packer(document.text, size, overlap, count)
    ending = PurePosixPath(document.source or document.id).suffix.lower()
    language = LANGUAGES.get(ending, "")
    for path, span in parts(document, size, count):
        span = packer.trim(span)
        if language:
            found = code_chunks(packer, span, language)
        else:
            found = packer.pack(block_pieces(packer, span), packer.even(span))
        for chunk in found:
            yield path, chunk


def block_pieces(packer: Packer, span: Span) -> Iterator[Span]:
    """Pieces that fit, blocks whole where they can be."""
    for kind, language, block in blocks(packer.text, span):
        if packer.fits(block):
            yield block
        elif kind == "code":
            yield from _fenced_pieces(packer, block, language)
        elif kind == "table":
            yield from pieces(packer, block, LINES)
        elif kind == "list":
            for item in _items(packer.text, block):
                yield from pieces(packer, item, PARAGRAPHS)
        else:
            yield from pieces(packer, block, PARAGRAPHS)


def _fenced_pieces(packer: Packer, block: Span, language: str) -> Iterator[Span]:
    """Pieces of a fence: its first line, its code, its last line."""
    begin, end = block
    inside = min(_LINE.match(packer.text, begin).end(), end)  # type: ignore[union-attr]
    last = packer.text.rfind("\n", inside, packer.trim(block)[1]) + 1
    if last <= inside or not _FENCE.match(packer.text, last, end):
        last = end  # it was never closed
    yield from pieces(packer, (begin, inside), LINES)
    if inside < last:
        yield from code_pieces(packer, (inside, last), language)
    if last < end:
        yield from pieces(packer, (last, end), LINES)


def blocks(text: str, span: Span) -> Iterator[tuple[Kind, str, Span]]:
    """The blocks of a span with their kind and, of code, the language; they touch each other,
    each with the empty lines behind it."""
    at, end = span
    begin, kind, language = at, "text", ""
    open_block = False  # whether the lines before belong to a block that may go on
    while at < end:
        line_end = min(_LINE.match(text, at).end(), end)  # type: ignore[union-attr]
        if not text[at:line_end].strip():
            # A list goes on behind an empty line where an item or an indented line follows.
            open_block = kind == "list" and _goes_on(text, line_end, end)
            at = line_end
            continue
        starts, stop = _starts(text, at, line_end, end, kind if open_block else "")
        if starts:
            if begin < at:
                yield kind, language, (begin, at)  # type: ignore[misc]
            begin, (kind, language) = at, starts
        open_block, at = kind != "code", stop
    if begin < end:
        yield kind, language, (begin, end)  # type: ignore[misc]


def _starts(
    text: str, at: int, line_end: int, end: int, inside: str
) -> tuple[tuple[str, str] | None, int]:
    """Kind and language of the block that starts with this line, None where the line belongs to
    the one before; and where to read on. ``inside`` is the kind of a block that may go on."""
    fence = _FENCE.match(text, at, line_end)
    if fence and (inside != "list" or fence[0][0] != " "):
        return ("code", language_of(fence["info"])), _fence_end(text, fence["marks"], line_end, end)
    if _ITEM.match(text, at, line_end) and not _RULE.match(text, at, line_end):
        return (None if inside == "list" else ("list", "")), line_end
    if inside == "list":
        return None, line_end  # a paragraph goes on without indentation
    if inside == "table":
        return (None if "|" in text[at:line_end] else ("text", "")), line_end
    if "|" in text[at:line_end]:
        row = _DELIMITERS.match(text, line_end, min(end, line_end + _ROW_LOOK))
        if row and "-" in row[0]:
            return ("table", ""), row.end()
    return (None if inside else ("text", "")), line_end


def _fence_end(text: str, marks: str, at: int, end: int) -> int:
    """Where a fence ends: behind a line of at least as many of its marks, or with the text."""
    closing = re.compile(rf"^ {{0,3}}{marks[0]}{{{len(marks)},}}[ \t]*+(?:\n|\Z)", re.MULTILINE)
    found = closing.search(text, at, end)
    return found.end() if found else end


def _goes_on(text: str, at: int, end: int) -> bool:
    """Whether the next line with something on it is an item or indented."""
    while at < end:
        line_end = min(_LINE.match(text, at).end(), end)  # type: ignore[union-attr]
        line = text[at:line_end]
        if line.strip():
            return line[0] in " \t" or _ITEM.match(line) is not None
        at = line_end
    return False


def _items(text: str, block: Span) -> Iterator[Span]:
    """The items of a list, each with what is indented below it."""
    begin, end = block
    at = begin
    while at < end:
        line_end = min(_LINE.match(text, at).end(), end)  # type: ignore[union-attr]
        if at > begin and _ITEM.match(text, at, line_end) and text[at] not in " \t":
            yield begin, at
            begin = at
        at = line_end
    yield begin, end
