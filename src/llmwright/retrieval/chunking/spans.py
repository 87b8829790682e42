"""What every way of cutting a document shares: spans, sizes, and the parts below its headings.

A span is half-open, in characters of the whole text, so that
``document.text[chunk.start:chunk.end] == chunk.text`` always holds. A part is a span with its path
of headings; a chunk does not cross into another part, with one exception: a section too small to
stand alone (under a sixth of ``size``) joins its neighbours below the same heading, and a heading
with no text of its own joins the first section below it. So each chunk has one heading path.

Size is counted by :func:`approximate_tokens` unless another counter is given: MiniLM and its like
read 256 word pieces and drop the rest, so the default size leaves room for the heading.

Cost: linear in the text; nothing here holds more than one copy of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from llmwright.core import Document

Count = Callable[[str], int]
Span = tuple[int, int]
Part = tuple[tuple[str, ...], Span]

_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
_UNIT = re.compile(f"[{_WIDE}]|(?:(?![{_WIDE}])\\w){{1,8}}|[^\\w\\s]")
_NARROW_UNIT = re.compile(r"\w{1,8}|[^\w\s]")  # the same where nothing wide is: thrice as fast
_AT_ONCE = 1 << 16  # characters whose units are listed at once


def approximate_tokens(text: str) -> int:
    """A cheap stand-in for a subword tokenizer: one for each started eight letters of a word,
    for each mark of punctuation, and for each Chinese, Japanese or Korean character."""
    unit = _NARROW_UNIT if text.isascii() else _UNIT
    total = begin = 0
    while len(text) - begin > _AT_ONCE:
        # White space is in no unit, so a text may be counted from one to the next.
        end = max(
            text.rfind(" ", begin, begin + _AT_ONCE), text.rfind("\n", begin, begin + _AT_ONCE)
        )
        if end <= begin:
            return total + sum(1 for _ in unit.finditer(text, begin))
        total += len(unit.findall(text, begin, end))
        begin = end
    return total + len(unit.findall(text, begin))


def sections(document: Document) -> Iterator[Part]:
    """Each section's own text, up to the next heading of any level, with its path of headings."""
    path: list[tuple[int, str]] = []
    begin, length = 0, len(document.text)
    for section in sorted(document.sections, key=lambda s: (s.start, s.level)):
        start = min(max(section.start, begin), length)
        yield tuple(title for _, title in path), (begin, start)
        while path and path[-1][0] >= section.level:
            path.pop()
        path.append((section.level, section.title))
        begin = start
    yield tuple(title for _, title in path), (begin, length)


def parts(document: Document, size: int, count: Count) -> Iterator[Part]:
    """Sections, the tiny ones joined to their neighbours; those of white space only left out."""
    text = document.text
    held: Part | None = None
    for path, (start, end) in sections(document):
        body = text[start:end].strip()
        if not body:
            continue
        if held is not None:
            above, (begin, stop) = held
            if path[: len(above)] == above and "\n" not in text[begin:stop].strip():
                held = path, (begin, end)  # a bare heading and what it heads
                continue
            common = _common(above, path)
            siblings = len(common) >= min(len(above), len(path)) - 1
            tiny = 6 * count(text[begin:stop].strip()) < size and 6 * count(body) < size
            if siblings and tiny and count(text[begin:end].strip()) <= size:
                held = common or above, (begin, end)
                continue
            yield held
        held = path, (start, end)
    if held is not None:
        yield held


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return one[:length]


def cut_at(text: str, span: Span, border: re.Pattern[str]) -> Iterator[Span]:
    """The pieces of a span, each with the border behind it, touching each other."""
    begin, end = span
    for match in border.finditer(text, begin, end):
        if match.end() < end:
            yield begin, match.end()
            begin = match.end()
    yield begin, end
