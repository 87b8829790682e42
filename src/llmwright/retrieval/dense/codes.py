"""One bit a dimension: vectors small enough that all of them can be scanned for each query.

A vector x is seen from the centre c of its segment and turned at random, r = R(x - c). Kept are
the signs b of r (48 bytes for 384 dimensions instead of 1,536) and two numbers, from which the
inner product with a query q, q' = R(q - c), is estimated without bias:

    <q, x>  ~  <q', b> |r|^2 / |r|_1  +  <c, x>  +  <q, c> - <c, c>

Query values are rounded to ``QUERY_BITS`` bits, u_j in 0..15 with q'_j ~ low + step u_j, so that
<q', b> is counted with AND and POPCNT on the bit planes of u:

    <q', b>  =  2 (low popcnt(b) + step sum_p 2^p popcnt(b & plane_p))  -  sum_j (low + step u_j)

Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for
Approximate Nearest Neighbor Search" (2024, arXiv 2405.12497). R is two rounds of random signs
and a cosine transform, as in Ailon and Chazelle, "The Fast Johnson-Lindenstrauss Transform"
(2009): it makes the error the same for every model, also for one whose first dimensions carry
the most (Matryoshka). The centre does that for models whose vectors all point one way.

Cost: 2 dimension^2 multiplications a vector to encode; dimension / 8 + 8 bytes a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

QUERY_BITS = 4
LANES = 8  # vectors whose words lie beside each other, for processors that count eight at once

Floats = NDArray[np.float32]
Words = NDArray[np.uint64]


@lru_cache(maxsize=4)
def _turning(dimension: int) -> tuple[Floats, Floats]:
    """Signs [2, dimension] and the orthonormal cosine transform [dimension, dimension]."""
    signs = np.random.default_rng(dimension).integers(0, 2, (2, dimension)) * 2.0 - 1.0
    places = np.arange(dimension)
    cosine = np.cos(np.pi / dimension * (places[:, None] + 0.5) * places)
    cosine *= np.sqrt(2.0 / dimension)
    cosine[:, 0] = np.sqrt(1.0 / dimension)
    return signs.astype(np.float32), cosine.astype(np.float32)


def turned(vectors: Floats) -> Floats:
    """R applied to rows: [n, dimension] -> [n, dimension], lengths and angles kept."""
    signs, cosine = _turning(vectors.shape[1])
    turn: Floats = ((vectors * signs[0]) @ cosine * signs[1]) @ cosine
    return turn


@dataclass(frozen=True, slots=True)
class Codes:
    """Encoded vectors. ``bits``: [blocks of LANES, words, LANES], the last block filled up with
    zeros; ``scale`` (|r|^2 / |r|_1) and ``shift`` (<c, x>): [n]; ``centre`` and R of it:
    [dimension]."""

    bits: Words
    scale: Floats
    shift: Floats
    centre: Floats
    turned_centre: Floats

    def __len__(self) -> int:
        return len(self.scale)


def encode(vectors: Floats, centre: Floats) -> Codes:
    """Codes of ``vectors`` [n, dimension]."""
    turn = turned(vectors - centre)  # [n, dimension]
    sums = np.abs(turn).sum(axis=1)
    scale = np.divide(np.square(turn).sum(axis=1), sums, out=np.zeros_like(sums), where=sums > 0)
    bits = _laned(packed(turn > 0))
    return Codes(bits, scale, vectors @ centre, centre, turned(centre[None])[0])


def packed(bits: NDArray[np.bool_]) -> Words:
    """[n, dimension] -> [n, words]; the bits behind the last dimension are zero."""
    n, dimension = bits.shape
    words = np.zeros((n, -(-dimension // 64)), np.uint64)
    packed = np.packbits(bits, axis=1, bitorder="little")
    words.view(np.uint8)[:, : packed.shape[1]] = packed
    return words


def _laned(words: Words) -> Words:
    n, count = words.shape
    blocks = -(-n // LANES)
    filled = np.zeros((blocks * LANES, count), np.uint64)
    filled[:n] = words
    return np.ascontiguousarray(filled.reshape(blocks, LANES, count).transpose(0, 2, 1))


@dataclass(frozen=True, slots=True)
class CodedQuery:
    """A query as the scan of one segment reads it. ``planes``: [QUERY_BITS, words]; ``low``,
    ``step`` and the sum of the rounded values as in the equations above."""

    planes: Words
    low: np.float32
    step: np.float32
    total: np.float32


def encode_query(turned_query: Floats, codes: Codes) -> CodedQuery:
    """R(q) [dimension] against codes; ``encode`` in scan.c does the same."""
    turn = turned_query - codes.turned_centre
    low = turn.min()
    step = (turn.max() - low) / np.float32(2**QUERY_BITS - 1) or np.float32(1)
    levels = np.rint((turn - low) / step).astype(np.uint8)  # [dimension]
    planes = packed(np.stack([(levels >> p & 1).astype(np.bool_) for p in range(QUERY_BITS)]))
    total = low * np.float32(len(turn)) + step * np.float32(levels.sum(dtype=np.int64))
    return CodedQuery(planes, low, step, total)
