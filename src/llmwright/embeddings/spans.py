"""Vectors of spans of a text that know the text around them: late chunking.

The whole text is encoded first, and the token vectors of each span pooled after:

    v_span = normalise(mean of h_t for the tokens t of the span),   h = encoder(whole text)

so that "it" in one chunk is read beside the name in the chunk before. Günther, Mohr, Williams,
Wang, Xiao (2024), "Late Chunking: Contextual Chunk Embeddings Using Long-Context Embedding
Models", arXiv 2409.04701; a text longer than the encoder reads is encoded in windows that overlap
(the paper's algorithm 2), each token taken from the window in which it stands further from an edge.

The marks at both ends of a text belong to its first and its last span, as the mean of an ordinary
embedding holds them: the vector of one span that is the whole of a short text equals ``embed``'s.

Cost: each token is encoded once, plus ``overlap / window`` of them twice; attention grows with the
window. Held at once are the token vectors of a few windows, whatever the length of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]
Tokenize = Callable[[str], tuple[list[int], list[Span]]]
"""Token ids of a text without marks, and the characters each stands for."""

Encode = Callable[[Sequence[Sequence[int]]], list[NDArray[np.float32]]]
"""Windows of token ids to their token vectors, each [tokens, hidden]."""

_AT_ONCE = 1 << 18  # characters tokenized together
_WINDOWS = 16  # encoded together


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens ``start`` to ``end`` are encoded; of these ``first`` to ``last`` are taken."""

    start: int
    end: int
    first: int
    last: int


def windows(tokens: int, size: int, overlap: int) -> list[Window]:
    """Windows of at most ``size`` tokens that share at least ``overlap``; what they take is every
    token once."""
    if tokens <= size:
        return [Window(0, tokens, 0, tokens)]
    starts = [*range(0, tokens - size, size - overlap), tokens - size]
    cuts = [(then + before + size) // 2 for before, then in pairwise(starts)]
    return [
        Window(start, start + size, first, last)
        for start, first, last in zip(starts, [0, *cuts], [*cuts, tokens], strict=True)
    ]


def span_means(
    text: str,
    spans: Sequence[Span],
    tokenize: Tokenize,
    encode: Encode,
    *,
    ends: tuple[list[int], list[int]],
    hidden: int,
    window: int,
    overlap: int,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean token vectors of spans in the order of the text: [spans, hidden], and which spans have
    a token at all. ``ends`` are the ids put before and behind each window; the first of ``ends``
    counts with the first span, the last with the last."""
    means = np.zeros((len(spans), hidden), np.float32)
    known = np.zeros(len(spans), np.bool_)
    for first, last in _blocks(spans):
        begin, end = spans[first][0], max(stop for _, stop in spans[first:last])
        ids, places = tokenize(text[begin:end])
        starts = np.array([start for start, _ in places], np.int64) + begin
        stops = np.array([stop for _, stop in places], np.int64) + begin
        # Tokens of span i: those that end behind its start and start before its end.
        lows = np.searchsorted(stops, [start for start, _ in spans[first:last]], "right")
        highs = np.searchsorted(starts, [stop for _, stop in spans[first:last]], "left")
        sums = np.zeros((last - first, hidden), np.float64)
        counts = (highs - lows).astype(np.float64)
        known[first:last] = counts > 0
        room = window - len(ends[0]) - len(ends[1])
        plan = windows(len(ids), room, min(overlap, room // 2))
        at = 0  # the first span that reaches into the windows to come
        for number, (part, vectors) in enumerate(_encoded(plan, ids, ends, encode)):
            if number == 0:
                sums[0] += vectors[0]
                counts[0] += 1
            if number == len(plan) - 1:
                sums[-1] += vectors[-1]
                counts[-1] += 1
            inner = vectors[len(ends[0]) :]
            while at < len(lows) and highs[at] <= part.first:
                at += 1
            for i in range(at, len(lows)):
                if lows[i] >= part.last:
                    break
                low, high = max(lows[i], part.first), min(highs[i], part.last)
                if low < high:
                    taken = inner[low - part.start : high - part.start]
                    sums[i] += taken.sum(0, dtype=np.float64)
        means[first:last] = sums / np.maximum(counts, 1.0)[:, None]
    return means, known


def _blocks(spans: Sequence[Span]) -> Iterator[Span]:
    """Runs of spans, each of a text short enough to be tokenized at once."""
    first = 0
    for number, (_, stop) in enumerate(spans):
        if number > first and stop - spans[first][0] > _AT_ONCE:
            yield first, number
            first = number
    if spans:
        yield first, len(spans)


def _encoded(
    plan: Sequence[Window], ids: Sequence[int], ends: tuple[list[int], list[int]], encode: Encode
) -> Iterator[tuple[Window, NDArray[np.float32]]]:
    for begin in range(0, len(plan), _WINDOWS):
        part = plan[begin : begin + _WINDOWS]
        yield from zip(
            part,
            encode([ends[0] + list(ids[w.start : w.end]) + ends[1] for w in part]),
            strict=True,
        )
