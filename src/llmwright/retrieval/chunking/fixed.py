"""Windows of a fixed number of tokens, whatever stands in them, each ``overlap`` into the last.

The plainest way, and what others are measured against: headings, paragraphs and sentences count
for nothing. Only words stay whole (a word larger than ``size`` is cut in equal shares), so a
window is up to one word smaller than ``size``. Its heading path is the one in force where it
begins.

Cost: linear in the text.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from llmwright.core import Document
from llmwright.retrieval.chunking.packing import Packer
from llmwright.retrieval.chunking.recursive import WORDS, pieces
from llmwright.retrieval.chunking.spans import Count, Part, sections


def fixed_spans(document: Document, size: int, overlap: int, count: Count) -> Iterator[Part]:
    """Chunks as spans with their paths of headings."""
    packer = Packer(document.text, size, overlap, count)
    known = list(sections(document))
    starts = [start for _, (start, _) in known]
    for span in packer.pack(pieces(packer, (0, len(document.text)), WORDS)):
        yield known[bisect_right(starts, span[0]) - 1][0], span
