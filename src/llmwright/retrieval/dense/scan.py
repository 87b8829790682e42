"""All codes against some queries: which vectors are worth looking at with full precision.

Reads every code once a query, a bit a dimension: 56 bytes a vector of 384 dimensions. The
compiled scan counts eight vectors at a time (AVX-512 VPOPCNTDQ) and is then bound by memory:
about 3 ms for 1,000,000 vectors on two cores. Without a compiler numpy counts the same numbers,
about twenty times as long.
"""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmwright.core import CLibrary, settings
from llmwright.retrieval.dense.codes import LANES, QUERY_BITS, CodedQueries, Codes

_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int

_SCAN = (
    _POINTER, _INT, _POINTER, _POINTER, _POINTER, _LONG, _LONG,
    _INT, _POINTER, _POINTER, _LONG, _POINTER, _POINTER,
)  # fmt: skip

KERNELS = CLibrary(
    Path(__file__).parent / "scan.c",
    (
        ("lw_scan", None, _SCAN),
        ("lw_gather", _INT, (_INT, _LONG, _LONG, _POINTER, _LONG, _POINTER)),
    ),
)
_PER_THREAD = 100_000  # vectors; fewer are done before a thread has started
_BLOCK = 65_536  # vectors that numpy estimates at once

Found = list[tuple[NDArray[np.int64], NDArray[np.float32]]]
"""For each query, rows and their estimated scores, best first; of equal scores the lower row."""


def scan(codes: Codes, queries: CodedQueries, k: int, mask: NDArray[np.bool_] | None) -> Found:
    """The ``k`` rows of each query with the highest estimates, among those of ``mask`` [n]."""
    if not len(codes) or not len(queries.planes):
        return [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in queries.planes]
    k = min(k, len(codes))
    keys = _compiled(codes, queries, k, mask) if KERNELS.available() else None
    if keys is None:
        keys = [_counted(codes, queries, q, k, mask) for q in range(len(queries.planes))]
    return [_unpacked(np.sort(found)[::-1][:k]) for found in keys]


def _compiled(
    codes: Codes, queries: CodedQueries, k: int, mask: NDArray[np.bool_] | None
) -> list[NDArray[np.uint64]]:
    library = KERNELS.load()
    n, count, words = len(codes), len(queries.planes), codes.bits.shape[1]
    threads = max(1, min(settings().threads or os.cpu_count() or 1, n // _PER_THREAD))
    # Each thread a whole number of blocks, the calling one the last of them.
    bounds = [n * i // threads // LANES * LANES for i in range(threads)] + [n]
    keys = np.empty((threads, count, 2 * k + LANES), np.uint64)
    held = np.empty((threads, count), np.int64)
    flags = None if mask is None else np.ascontiguousarray(mask, np.uint8)

    def work(i: int) -> None:
        library.lw_scan(
            codes.bits.ctypes.data, words, codes.scale.ctypes.data, codes.shift.ctypes.data,
            None if flags is None else flags.ctypes.data, bounds[i], bounds[i + 1], count,
            queries.planes.ctypes.data, queries.terms.ctypes.data, k,
            keys[i].ctypes.data, held[i].ctypes.data,
        )  # fmt: skip

    others = [threading.Thread(target=work, args=(i,)) for i in range(threads - 1)]
    for thread in others:
        thread.start()
    work(threads - 1)
    for thread in others:
        thread.join()
    parts = range(threads)
    return [np.concatenate([keys[i, q, : held[i, q]] for i in parts]) for q in range(count)]


def _counted(
    codes: Codes, queries: CodedQueries, q: int, k: int, mask: NDArray[np.bool_] | None
) -> NDArray[np.uint64]:
    """The same by numpy, in the same order of operations."""
    low, step, total, constant = queries.terms[q]
    best = np.zeros(0, np.uint64)
    for start in range(0, len(codes), _BLOCK):
        stop = min(start + _BLOCK, len(codes))
        bits = codes.bits[start // LANES : -(-stop // LANES)]  # [blocks, words, LANES]
        n = stop - start
        ones = np.bitwise_count(bits).sum(axis=1, dtype=np.int64).reshape(-1)[:n]
        sums = np.zeros(n, np.int64)
        for p in range(QUERY_BITS):
            common = np.bitwise_count(bits & queries.planes[q, p][:, None])
            sums += common.sum(axis=1, dtype=np.int64).reshape(-1)[:n] << p
        x = ones.astype(np.float32) * low + sums.astype(np.float32) * step
        x = x + x - total
        x = (x * codes.scale[start:stop] + codes.shift[start:stop]) + constant
        keys = _packed(x, np.arange(start, stop))
        best = np.concatenate([best, keys if mask is None else keys[mask[start:stop]]])
        if len(best) > k:
            best = np.partition(best, len(best) - k)[-k:]
    return best


def _packed(scores: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Score and row as one number whose order is that of both (``key_of`` in scan.c)."""
    bits = scores.view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    return ordered << np.uint64(32) | (0xFFFFFFFF - rows).astype(np.uint64)


def _unpacked(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    high = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(high >> 31, high & np.uint32(0x7FFFFFFF), ~high)
    rows = 0xFFFFFFFF - (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return rows, bits.astype(np.uint32).view(np.float32)
