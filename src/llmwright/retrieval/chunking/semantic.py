"""Cut where the subject changes: where neighbouring sentences lie far apart as vectors.

Each sentence is embedded together with ``window`` sentences on either side, v_i, and

    d_i = 1 - cos(v_i, v_{i+1})

is the distance across the border between sentences i and i+1. A border is cut where d_i stands
out among all of the document's:

    percentile   d_i > P-th percentile of d
    deviation    d_i > mean(d) + k * std(d)
    gradient     (grad d)_i > P-th percentile of grad d,   grad d = (d_{i+1} - d_{i-1}) / 2

which is Kamradt's method ("5 Levels of Text Splitting", 2023) as LangChain and LlamaIndex have it.
What lies between two cuts is split at its sentences where it is larger than ``size``, and joined
to its neighbour where it is smaller than a sixth of it. Cuts never cross a section.

Cost: embeds the document ``2 * window + 1`` times over, before the index embeds its chunks; a few
thousand windows are held at once, and one number for each border.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from llmwright.core import Document
from llmwright.retrieval.chunking.packing import Packer
from llmwright.retrieval.chunking.recursive import WORDS, pieces
from llmwright.retrieval.chunking.sentences import split_sentences
from llmwright.retrieval.chunking.settings import ChunkSettings
from llmwright.retrieval.chunking.spans import Count, Part, Span, parts

Embed = Callable[[Sequence[str]], NDArray[np.float32]]

_AT_ONCE = 2048  # windows embedded together


def semantic_spans(
    document: Document, settings: ChunkSettings, count: Count, embed: Embed
) -> Iterator[Part]:
    """Chunks as spans with their paths of headings."""
    text = document.text
    packer = Packer(text, settings.size, settings.overlap, count)
    found = [
        (path, list(split_sentences(text, packer.trim(span))))
        for path, span in parts(document, settings.size, count)
    ]
    windows = (
        (lines[max(0, i - settings.window)][0], lines[min(i + settings.window, len(lines) - 1)][1])
        for _, lines in found
        for i in range(len(lines))
    )
    distances = neighbour_distances(windows, text, embed)
    # The last distance of each part, to the first sentence of the next, is no border.
    ends = np.cumsum([len(lines) for _, lines in found], dtype=np.int64) - 1
    inner = np.ones(len(distances), np.bool_)
    inner[ends[:-1]] = False
    cuts = np.zeros(len(distances), np.bool_)
    cuts[inner] = breakpoints(distances[inner], settings.breakpoint, settings.limit)
    at = 0
    for path, lines in found:
        inside = cuts[at : at + len(lines) - 1]
        at += len(lines)
        for segment in _segments(packer, lines, inside):
            shares = (p for line in segment for p in pieces(packer, line, WORDS))
            enough = packer.even((segment[0][0], segment[-1][1]))
            for chunk in packer.pack(shares, enough):
                yield path, chunk


def neighbour_distances(
    windows: Iterator[Span], text: str, embed: Embed
) -> NDArray[np.float64]:  # [windows - 1]
    """1 - cosine of each window and the next."""
    distances: list[NDArray[np.float64]] = []
    before: NDArray[np.float32] | None = None
    while True:
        block = [text[begin:end] for _, (begin, end) in zip(range(_AT_ONCE), windows, strict=False)]
        if not block:
            break
        vectors = embed(block)  # [block, dimension]
        if before is not None:
            vectors = np.concatenate([before, vectors])
        # In float64: the products of a block and of its halves agree to the last digit that counts.
        pairs = np.einsum("nd,nd->n", vectors[:-1], vectors[1:], dtype=np.float64)
        distances.append(1.0 - pairs)
        before = vectors[-1:]
    return np.concatenate(distances) if distances else np.zeros(0)


def breakpoints(
    distances: NDArray[np.float64], kind: str, threshold: float
) -> NDArray[np.bool_]:  # [borders]
    """Which borders stand out. With fewer than two, none does."""
    if len(distances) < 2:
        return np.zeros(len(distances), np.bool_)
    values = np.gradient(distances) if kind == "gradient" else distances
    if kind == "deviation":
        limit = values.mean() + threshold * values.std()
    else:
        limit = np.percentile(values, threshold)
    return np.asarray(values > limit, np.bool_)


def _segments(packer: Packer, lines: list[Span], cuts: NDArray[np.bool_]) -> Iterator[list[Span]]:
    """Sentences between cuts, the tiny segments joined to the next while that fits."""
    held: list[Span] = []
    segment: list[Span] = []
    for number, line in enumerate(lines):
        segment.append(line)
        if number < len(cuts) and not cuts[number]:
            continue
        tiny = held and (_tiny(packer, held) or _tiny(packer, segment))
        if tiny and packer.fits((held[0][0], segment[-1][1])):
            held, segment = held + segment, []
            continue
        if held:
            yield held
        held, segment = segment, []
    if held:
        yield held


def _tiny(packer: Packer, segment: list[Span]) -> bool:
    return 6 * packer.measure((segment[0][0], segment[-1][1])) < packer.size
