"""Cut recursively, at the strongest border that makes the pieces fit.

Sections (from the reader), then paragraphs, lines, sentences, words, at last single characters.
Neighbouring pieces are packed together again while they fit ``size``, and a new chunk may begin
with the last pieces of the one before it (``overlap``). This is the recursive splitting that
LangChain made common, with two laws it does not keep: offsets always map back to the text, and
no character but white space between chunks is lost.

Cost: linear in the text; borders are matched without backtracking, so no text makes it slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmwright.core import Document
from llmwright.retrieval.chunking.packing import Packer
from llmwright.retrieval.chunking.spans import Count, Part, Span, cut_at, parts

PARAGRAPHS, LINES, SENTENCES, WORDS = range(4)
# Each border is matched with the white space after it, which stays with the piece before.
_BORDERS = (
    re.compile(r"\n[^\S\n]*+\n\s*"),
    re.compile(r"\n\s*"),
    re.compile("(?<![.!?…])[.!?…]++[\"'»”’)\\]]*+\\s+|[。！？]++[」』”]?\\s*|[।॥؟۔]+\\s*"),
    re.compile(r"\s+"),
)


def recursive_spans(document: Document, size: int, overlap: int, count: Count) -> Iterator[Part]:
    """Chunks as spans with their paths of headings."""
    packer = Packer(document.text, size, overlap, count)
    for path, span in parts(document, size, count):
        for chunk in split_span(packer, span):
            yield path, chunk


def split_span(packer: Packer, span: Span) -> Iterator[Span]:
    """Chunks of about equal size that cover a span but for white space."""
    span = packer.trim(span)
    if span[0] < span[1]:
        yield from packer.pack(pieces(packer, span), packer.even(span))


def pieces(packer: Packer, span: Span, border: int = PARAGRAPHS) -> Iterator[Span]:
    """Pieces that fit, in order and touching each other, cut no finer than needed, at ``border``
    and those below it."""
    if packer.fits(span):
        yield span
    elif border < len(_BORDERS):
        for piece in cut_at(packer.text, span, _BORDERS[border]):
            yield from pieces(packer, piece, border + 1)
    else:
        yield from packer.shares(span)
