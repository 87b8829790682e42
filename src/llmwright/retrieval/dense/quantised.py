"""Vectors in fewer bytes, each form with a first ranking, and the second look that mends it.

    Int8Vectors    x_j ~ s code_j, codes in -127..127, s a scale of the vector or of the dimension
    SignVectors    the sign of each coordinate; nearness is the number of equal signs (Hamming)
    CodedVectors   the sign of each turned coordinate and two numbers (RaBitQ, ``codes``)
    ShortVectors   the first coordinates in float32, scaled to length 1 again (Matryoshka)

``two_steps`` ranks by such a form and again, among the best of that, by full vectors wherever
they lie: an array, a memory map, a ``DenseSegment``'s file. The index itself uses CodedVectors in
this way; these classes are for vectors of one's own, and to measure what a form costs
(benchmarks/vectors.py). They stand beside search rather than beside the embedders,
which know nothing of how their vectors are kept.

Yamada, Asai and Hajishirzi (2021), "Efficient Passage Retrieval with Hashing for Open-domain
Question Answering", arXiv 2106.00882, for signs with a second look; Kusupati et al. (2022),
arXiv 2205.13147, for short vectors with one.

Cost for d dimensions, against 4 d bytes: INT8 d (+ 4), signs d / 8, coded signs d / 8 + 8, short
vectors 4 m. A first ranking reads all of them; numpy multiplies INT8 in float32, block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from llmwright.embeddings.truncated import truncate
from llmwright.retrieval.dense.codes import encode, packed
from llmwright.retrieval.dense.cosine import cosines
from llmwright.retrieval.dense.scan import scan

_BLOCK = 16_384  # vectors ranked at once

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class Quantised(Protocol):
    """A form of [n, d] vectors that can be ranked."""

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        ...

    def nearest(self, queries: Floats, k: int) -> list[Rows]:
        """For each of ``queries`` [queries, d] the ``k`` rows it holds for nearest, best first,
        of equal ones the lower row."""
        ...


class Int8Vectors:
    """One byte a dimension; ``per`` says what a scale belongs to: each vector, which any vector
    can join later, or each dimension, for vectors whose dimensions differ much in size."""

    def __init__(self, vectors: Floats, per: Literal["vector", "dimension"] = "vector") -> None:
        axis = 1 if per == "vector" else 0
        largest = np.abs(vectors).max(axis=axis, initial=0)
        self.per = per
        self.scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        scale = self.scale[:, None] if per == "vector" else self.scale
        self.codes = np.rint(vectors / scale).astype(np.int8)  # [n, d]

    @property
    def nbytes(self) -> int:
        return int(self.codes.nbytes + self.scale.nbytes)

    def decoded(self, rows: Rows) -> Floats:
        """What the codes of some rows stand for: [rows, d]."""
        scale = self.scale[rows, None] if self.per == "vector" else self.scale
        decoded: Floats = self.codes[rows] * scale
        return decoded

    def nearest(self, queries: Floats, k: int) -> list[Rows]:
        def scores(begin: int, end: int) -> Floats:
            codes = self.codes[begin:end].astype(np.float32)
            if self.per == "dimension":
                return cosines(queries * self.scale, codes)
            return cosines(queries, codes * self.scale[begin:end, None])

        return _nearest(scores, len(self.codes), len(queries), k)


class SignVectors:
    """One bit a dimension, for queries too."""

    def __init__(self, vectors: Floats) -> None:
        self.bits = packed(vectors > 0)  # [n, words]

    @property
    def nbytes(self) -> int:
        return self.bits.nbytes

    def nearest(self, queries: Floats, k: int) -> list[Rows]:
        asked = packed(queries > 0)

        def scores(begin: int, end: int) -> Floats:
            differing = np.zeros((len(asked), end - begin), np.int32)
            for word in range(asked.shape[1]):
                of_word = self.bits[begin:end, word] ^ asked[:, word, None]
                differing += np.bitwise_count(of_word)
            return -differing.astype(np.float32)

        return _nearest(scores, len(self.bits), len(queries), k)


class CodedVectors:
    """One bit a dimension, for queries four: what the index keeps in memory."""

    def __init__(self, vectors: Floats) -> None:
        centre = (vectors.sum(axis=0) / max(1, len(vectors))).astype(np.float32)
        self.codes = encode(vectors, centre)

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in (self.codes.bits, self.codes.scale, self.codes.shift))

    def nearest(self, queries: Floats, k: int) -> list[Rows]:
        return [rows for rows, _ in scan([self.codes], queries, k, [None])]


class ShortVectors:
    """The first ``dimension`` coordinates."""

    def __init__(self, vectors: Floats, dimension: int) -> None:
        self.vectors = truncate(vectors, dimension)  # [n, dimension]

    @property
    def nbytes(self) -> int:
        return self.vectors.nbytes

    def nearest(self, queries: Floats, k: int) -> list[Rows]:
        short = truncate(queries, self.vectors.shape[1])
        return _nearest(
            lambda begin, end: cosines(short, self.vectors[begin:end]),
            len(self.vectors), len(queries), k,
        )  # fmt: skip


def two_steps(
    coarse: Quantised,
    vectors: Callable[[Rows], Floats],
    queries: Floats,
    top: int,
    shortlist: int,
) -> Iterator[list[tuple[int, float]]]:
    """For each query the ``top`` best of its ``shortlist`` by full vectors: rows and cosines,
    best first. ``vectors`` gives the unit vectors of some rows, ``array.__getitem__`` for one."""
    for query, rows in zip(queries, coarse.nearest(queries, max(top, shortlist)), strict=True):
        scores = cosines(query[None], vectors(rows))[0] if len(rows) else np.zeros(0, np.float32)
        order = np.lexsort((rows, -scores))[:top]
        yield list(zip(rows[order].tolist(), scores[order].tolist(), strict=True))


def _nearest(scores: Callable[[int, int], Floats], n: int, queries: int, k: int) -> list[Rows]:
    """The greatest ``k`` of scores that are computed for rows [begin, end) at a time."""
    kept = [(np.zeros(0, np.float32), np.zeros(0, np.int64)) for _ in range(queries)]
    for begin in range(0, n, _BLOCK):
        end = min(begin + _BLOCK, n)
        for q, part in enumerate(scores(begin, end)):
            values = np.concatenate([kept[q][0], part])
            rows = np.concatenate([kept[q][1], np.arange(begin, end)])
            if len(values) > k:  # all that tie with the last one stay, for the rows to decide
                bound = np.partition(values, len(values) - k)[len(values) - k]
                best = np.flatnonzero(values >= bound)
                best = best[np.lexsort((rows[best], -values[best]))[:k]]
                values, rows = values[best], rows[best]
            kept[q] = (values, rows)
    return [rows[np.lexsort((rows, -values))] for values, rows in kept]
