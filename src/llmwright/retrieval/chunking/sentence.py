"""Chunks of whole sentences, ``sentences`` in each at most, the last few of one repeated in the
next.

Chunks stay within sections and under ``size``; a sentence larger than that is cut at its words.
The overlap is counted in sentences here, as is usual for this way of cutting.

Cost: linear in the text. Sentences are found by ``sentences.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmwright.core import Document
from llmwright.retrieval.chunking.packing import Packer
from llmwright.retrieval.chunking.recursive import WORDS, pieces
from llmwright.retrieval.chunking.sentences import split_sentences
from llmwright.retrieval.chunking.spans import Count, Part, Span, parts


def sentence_spans(
    document: Document, size: int, number: int, shared: int, count: Count
) -> Iterator[Part]:
    """Chunks of at most ``number`` sentences, ``shared`` of them also in the chunk before."""
    packer = Packer(document.text, size, 0, count, most=number, shared=shared)
    for path, span in parts(document, size, count):
        for chunk in packer.pack(sentence_pieces(packer, span)):
            yield path, chunk


def sentence_pieces(packer: Packer, span: Span) -> Iterator[Span]:
    """The sentences of a span, those too large cut at their words."""
    for sentence in split_sentences(packer.text, packer.trim(span)):
        yield from pieces(packer, sentence, WORDS)
