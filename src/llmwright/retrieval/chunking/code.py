"""Where source code may be cut: between its definitions, from the outside in.

A scan over strings, comments and brackets says of each line how deep it stands and whether it
lies inside a literal, without a grammar. A piece too large is cut at its outermost lines, by
indentation in Python and by open brackets elsewhere; a comment, decorator or annotation stays
with what it precedes, a closing bracket with what it closes. So a class that does not fit is cut
between its methods, and a method between its statements. Lines are the last resort before words.

Knows Python, JavaScript and TypeScript, Java, C and C++, C#, Go, Rust, Kotlin, Swift and shell.
(cAST, Zhang et al., 2025, arXiv
2506.15655, does this with a parser for each language; a scan of brackets needs no library and
reads files that do not parse.)

Cost: linear in the text times the levels it goes down, at most ``_DEEPEST``.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from llmwright.retrieval.chunking.packing import Packer
from llmwright.retrieval.chunking.recursive import LINES, pieces
from llmwright.retrieval.chunking.spans import Span

_DEEPEST = 8
LANGUAGES = {
    ".py": "python", ".pyi": "python", ".js": "javascript", ".mjs": "javascript",
    ".jsx": "javascript", ".ts": "javascript", ".tsx": "javascript", ".java": "java",
    ".kt": "java", ".swift": "java", ".cs": "java", ".c": "c", ".h": "c", ".cc": "c", ".cpp": "c",
    ".hpp": "c", ".rs": "rust", ".go": "go", ".sh": "shell",
}  # fmt: skip
"""Endings of source code, and the language whose strings and comments they have."""

_NAMES = {
    **{ending[1:]: language for ending, language in LANGUAGES.items()},
    **{name: name for name in LANGUAGES.values()},
    "python3": "python", "typescript": "javascript", "c++": "c", "golang": "go", "bash": "shell",
    "kotlin": "java", "csharp": "java", "console": "shell",
}  # fmt: skip

_QUOTED = r'"(?:[^"\\\n]|\\.)*+"?'
_SINGLE = r"'(?:[^'\\\n]|\\.)*+'?"
_BRACKETS = r"(?P<open>[\[({])|(?P<close>[\])}])"
_SLASHES = r"//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/)?"
# Alternatives are literals and comments, matched whole; an unclosed one ends with its line or file.
_LEXICAL = {
    "python": rf'#[^\n]*+|"""(?:[^"\\]|\\.|"(?!""))*+(?:""")?|'
    rf"'''(?:[^'\\]|\\.|'(?!''))*+(?:''')?|{_QUOTED}|{_SINGLE}",
    "shell": rf"(?<!\S)#[^\n]*+|{_QUOTED}|'[^']*+'?",
    "javascript": rf"{_SLASHES}|`(?:[^`\\]|\\.)*+`?|{_QUOTED}|{_SINGLE}",
    "java": rf'{_SLASHES}|"""(?:[^"\\]|\\.|"(?!""))*+(?:""")?|{_QUOTED}|{_SINGLE}',
    "go": rf"{_SLASHES}|`[^`]*+`?|{_QUOTED}|{_SINGLE}",
    # A lifetime ('a) opens no string, so only a whole character is one.
    "rust": rf"{_SLASHES}|{_QUOTED}|'(?:[^'\\\n]|\\.)'",
    "c": rf"{_SLASHES}|{_QUOTED}|{_SINGLE}",
}
_SCANNERS = {
    language: re.compile(rf"(?P<literal>{literals})|{_BRACKETS}", re.DOTALL)
    for language, literals in _LEXICAL.items()
}
_COMMENT = re.compile(r"\s*(?:#(?!include|define|if|endif|else)|//|/\*|\*|@|\]|<!--)")
_CLOSES = re.compile(r"\s*(?:[\])}]|(?:else|elif|except|finally|catch|end|fi|done|esac)\b)")
_INDENTATION = re.compile(r"[ \t]*+")


@dataclass(frozen=True, slots=True)
class Line:
    """A line that may begin a piece: where it starts, and how deep it stands."""

    start: int
    depth: int


def language_of(info: str) -> str:
    """The language a fence's info string names ("py", "c++ title=x"); "" where it is unknown."""
    name = info.strip().partition(" ")[0].strip("{}.").partition(",")[0].lower()
    return _NAMES.get(name, "")


def code_chunks(packer: Packer, span: Span, language: str) -> Iterator[Span]:
    """Chunks of a file: neighbouring definitions together while they fit, and a definition that
    does not fit in chunks of its own."""
    together: list[Span] = []
    for piece in _outermost(span, list(outline(packer.text, span, language))):
        if packer.fits(piece):
            together.append(piece)
            continue
        yield from _packed(packer, together)
        together = []
        yield from _packed(packer, list(code_pieces(packer, piece, language)))
    yield from _packed(packer, together)


def code_pieces(packer: Packer, span: Span, language: str) -> Iterator[Span]:
    """Pieces of source code that fit, in order and touching each other. In a language that is
    not known, paragraphs and lines."""
    if packer.fits(span):
        yield span
    elif not language:
        yield from pieces(packer, span)
    else:
        yield from _cut(packer, span, list(outline(packer.text, span, language)), 0)


def _packed(packer: Packer, found: list[Span]) -> Iterator[Span]:
    if found:
        yield from packer.pack(found, packer.even((found[0][0], found[-1][1])))


def _outermost(span: Span, lines: list[Line]) -> Iterator[Span]:
    """A span cut before each of its outermost lines but the first."""
    begin, end = span
    inner = _inside(lines, span)
    least = min((line.depth for line in inner), default=0)
    for cut in [*(line.start for line in inner if line.depth == least), end]:
        yield begin, cut
        begin = cut


def _inside(lines: list[Line], span: Span) -> list[Line]:
    """The lines of a span without the first, which opens it and says nothing of its inside."""
    begin, end = span
    return lines[bisect_left(lines, begin + 1, key=_start) : bisect_left(lines, end, key=_start)]


def _cut(packer: Packer, span: Span, lines: list[Line], level: int) -> Iterator[Span]:
    inner = _inside(lines, span)
    if packer.fits(span):
        yield span
    elif not inner or level == _DEEPEST:  # a literal of many lines, a long line, or a deep nest
        yield from pieces(packer, span, LINES)
    else:
        for piece in _outermost(span, inner):
            yield from _cut(packer, piece, inner, level + 1)


def _start(line: Line) -> int:
    return line.start


def outline(text: str, span: Span, language: str) -> Iterator[Line]:
    """The lines at which code may be cut, with how deep each stands."""
    begin, end = span
    scanner = _SCANNERS[language].finditer(text, begin, end)
    token = next(scanner, None)
    depth, at = 0, begin
    waiting: int | None = None  # the first of the comment lines that precede what comes
    while at < end:
        newline = text.find("\n", at, end)
        stop = end if newline < 0 else newline + 1
        inside = False  # a literal that began on an earlier line
        opened = depth
        while token is not None and token.start() < stop:
            inside = inside or token.start() < at < token.end()
            if token["open"]:
                depth += 1
            elif token["close"]:
                depth = max(0, depth - 1)
            elif token.end() > stop:
                break
            token = next(scanner, None)
        line = text[at:stop]
        if not line.strip():
            waiting = None
        elif not inside and not (language in ("python", "shell") and opened):
            if _COMMENT.match(line):
                waiting = at if waiting is None else waiting
            elif not _CLOSES.match(line):
                start = at if waiting is None else waiting
                by_indent = language in ("python", "shell")
                deep = _indentation(line) if by_indent else opened
                yield Line(start, deep)
                waiting = None
            else:
                waiting = None
        at = stop


def _indentation(line: str) -> int:
    return len(_INDENTATION.match(line)[0].expandtabs(8))  # type: ignore[index]
