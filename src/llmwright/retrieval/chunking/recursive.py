"""Cut a document into passages, recursively, keeping the offsets of every character.

The text is cut at the strongest border that makes the pieces fit: sections (from the reader),
then paragraphs, lines, sentences, words, at last single characters. Neighbouring pieces are
packed together again while they fit ``size``, and a new passage may begin with the last pieces
of the one before it (``overlap``). This is the recursive splitting that LangChain made common,
with two laws it does not keep: ``document.text[chunk.start:chunk.end] == chunk.text`` always,
and no character but white space between passages is lost.

A passage does not cross into another section, with one exception: a section too small to stand
alone (under a sixth of ``size``) joins its neighbours below the same heading, and a heading with
no text of its own joins the first section below it. So each passage has one heading path.

Size is counted by :func:`approximate_tokens` unless another counter is given: MiniLM and its
like read 256 word pieces and drop the rest, so the default leaves room for the heading.

Cost: linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from llmwright.core import Chunk, ConfigurationError, Document

DEFAULT_SIZE = 220
DEFAULT_OVERLAP = 0

Count = Callable[[str], int]
Span = tuple[int, int]

_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
_UNIT = re.compile(f"[{_WIDE}]|(?:(?![{_WIDE}])\\w){{1,8}}|[^\\w\\s]")
# Each border is matched with the white space after it, which stays with the piece before.
_BORDERS = (
    re.compile(r"\n[^\S\n]*\n\s*"),  # paragraph
    re.compile(r"\n\s*"),  # line
    re.compile("[.!?…]+[\"'»”’)\\]]*\\s+|[。！？]+[」』”]?\\s*|[।॥؟۔]+\\s*"),  # sentence
    re.compile(r"\s+"),  # word
)


def approximate_tokens(text: str) -> int:
    """A cheap stand-in for a subword tokenizer: one for each started eight letters of a word,
    for each mark of punctuation, and for each Chinese, Japanese or Korean character."""
    return len(_UNIT.findall(text))


def chunk_document(
    document: Document,
    size: int = DEFAULT_SIZE,
    overlap: int = DEFAULT_OVERLAP,
    count: Count = approximate_tokens,
) -> list[Chunk]:
    """Passages of at most ``size`` by ``count``, in the order of the text.

    Only a single character that ``count`` alone finds larger than ``size`` makes a larger
    passage. A document without text, or of white space only, has no passages. Raises
    ``ConfigurationError`` where ``size`` is below 1 or ``overlap`` not between 0 and half of it.
    """
    check_sizes(size, overlap)
    splitter = _Splitter(document.text, size, overlap, count)
    return [
        Chunk(
            id=f"{document.id}:{start}-{end}",
            document_id=document.id,
            text=document.text[start:end],
            start=start,
            end=end,
            heading=" > ".join(path),
            language=document.language,
            metadata=document.metadata,
        )
        for path, span in _parts(document, size, count)
        for start, end in splitter.split(span)
    ]


def check_sizes(size: int, overlap: int) -> None:
    """Raises ``ConfigurationError`` where they are out of range."""
    if size < 1:
        raise ConfigurationError(
            f"the chunk size is {size}", where="chunk size", fix="give 1 or more"
        )
    if not 0 <= overlap <= size // 2:
        raise ConfigurationError(
            f"the chunk overlap is {overlap}",
            where="chunk overlap",
            fix=f"give 0 to {size // 2}, half of the chunk size",
        )


def _sections(document: Document) -> Iterator[tuple[tuple[str, ...], Span]]:
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


def _parts(document: Document, size: int, count: Count) -> Iterator[tuple[tuple[str, ...], Span]]:
    """Sections, the tiny ones joined to their neighbours."""
    text = document.text
    held: tuple[tuple[str, ...], Span] | None = None
    for path, (start, end) in _sections(document):
        body = text[start:end].strip()
        if not body:
            continue
        if held is not None:
            above, (begin, stop) = held
            whole = text[begin:end]
            if path[: len(above)] == above and "\n" not in text[begin:stop].strip():
                held = path, (begin, end)  # a bare heading and what it heads
                continue
            common = _common(above, path)
            siblings = len(common) >= min(len(above), len(path)) - 1
            tiny = 6 * count(text[begin:stop].strip()) < size and 6 * count(body) < size
            if siblings and tiny and count(whole.strip()) <= size:
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


class _Splitter:
    """Cuts spans of one text. Spans are half-open, in characters of the whole text."""

    def __init__(self, text: str, size: int, overlap: int, count: Count) -> None:
        self.text, self.size, self.overlap, self.count = text, size, overlap, count
        self._enough = 1.0

    def split(self, span: Span) -> list[Span]:
        """Trimmed spans that fit, covering everything in ``span`` but white space."""
        span = self._trim(span)
        if span[0] == span[1]:
            return []
        total = self._measure(span)
        # Of equal length where possible: 230 for a size of 220 is cut in halves, not 220 and 10.
        self._enough = total / -(-total // self.size) if total else 1.0
        return self._pack(list(self._pieces(span, 0)))

    def _pieces(self, span: Span, depth: int) -> Iterator[Span]:
        """Pieces that fit, in order and touching each other, cut no finer than needed."""
        if self._measure(span) <= self.size or span[1] - span[0] == 1:
            yield span
        elif depth < len(_BORDERS):
            for piece in self._cut(span, _BORDERS[depth]):
                yield from self._pieces(piece, depth + 1)
        else:
            # Halving keeps this linear; a mark stays with the letter it sits on if it can.
            middle = (span[0] + span[1]) // 2
            while middle < span[1] - 1 and unicodedata.category(self.text[middle])[0] == "M":
                middle += 1
            yield from self._pieces((span[0], middle), depth)
            yield from self._pieces((middle, span[1]), depth)

    def _cut(self, span: Span, border: re.Pattern[str]) -> Iterator[Span]:
        begin, end = span
        for match in border.finditer(self.text, begin, end):
            if match.end() < end:
                yield begin, match.end()
                begin = match.end()
        yield begin, end

    def _pack(self, pieces: list[Span]) -> list[Span]:
        """Join neighbours while they fit; begin the next with the last pieces of this one."""
        chunks: list[Span] = []
        first = 0
        while first < len(pieces):
            last = self._last(pieces, first)
            if (chunk := self._trim((pieces[first][0], pieces[last][1])))[0] < chunk[1]:
                chunks.append(chunk)
            if last + 1 == len(pieces):
                break
            first = self._back(pieces, first, last)
        return chunks

    def _last(self, pieces: list[Span], first: int) -> int:
        """The furthest piece that still fits together with ``first``.

        Counts of pieces are added up, and the sum, which a subword tokenizer need not keep,
        is checked against the true count of the whole.
        """
        total, last = self._measure(pieces[first]), first
        while last + 1 < len(pieces) and total < self._enough:
            total += self._measure(pieces[last + 1])
            if total > self.size:
                break
            last += 1
        while last > first and self._measure((pieces[first][0], pieces[last][1])) > self.size:
            last -= 1
        return last

    def _back(self, pieces: list[Span], first: int, last: int) -> int:
        """Where the next chunk begins: so far back that the overlap fits and it gets further."""
        begin = last + 1
        while (
            begin - 1 > first
            and self._measure((pieces[begin - 1][0], pieces[last][1])) <= self.overlap
            and self._measure((pieces[begin - 1][0], pieces[last + 1][1])) <= self.size
        ):
            begin -= 1
        return begin if self._last(pieces, begin) > last else last + 1

    def _measure(self, span: Span) -> int:
        return self.count(self.text[span[0] : span[1]].strip())

    def _trim(self, span: Span) -> Span:
        """Without the white space at both ends."""
        start, end = span
        part = self.text[start:end]
        return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())
