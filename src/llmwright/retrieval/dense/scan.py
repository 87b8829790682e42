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
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmwright.core import CLibrary, settings
from llmwright.retrieval.dense.codes import LANES, QUERY_BITS, Codes, encode_query, turned

_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int

_SCAN = (
    _POINTER, _INT, ctypes.c_int64, ctypes.c_int64, _INT, _INT,
    _POINTER, _POINTER, _LONG, _POINTER, _POINTER, _POINTER,
)  # fmt: skip

KERNELS = CLibrary(
    Path(__file__).parent / "scan.c",
    (
        ("lw_scan", None, _SCAN),
        ("lw_gather", _INT, (_INT, _LONG, _LONG, _POINTER, _LONG, _POINTER)),
    ),
)
_PART = np.dtype(
    [(name, np.uint64) for name in ("bits", "scale", "shift", "centre", "mask")]
    + [(name, np.int64) for name in ("rows", "start")]
)
_PER_THREAD = 100_000  # vectors; fewer are done before a thread has started
_BLOCK = 65_536  # vectors that numpy estimates at once

Mask = NDArray[np.bool_]
Keys = NDArray[np.uint64]
Found = list[tuple[NDArray[np.int64], NDArray[np.float32]]]
"""For each query, places and their scores."""


def scan(
    segments: Sequence[Codes],
    queries: NDArray[np.float32],
    k: int,
    masks: Sequence[Mask | None],
) -> Found:
    """The ``k`` vectors with the highest estimates for each of ``queries`` [n, dimension], best
    first, of equal ones the lower place.

    Places are numbered through the segments; ``masks`` says for each which may be found.
    """
    sizes = [len(codes) for codes in segments]
    k = min(k, sum(sizes))
    if not k or not len(queries):
        return [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in queries]
    centres = np.stack([codes.centre for codes in segments])  # [segments, dimension]
    constants = queries @ centres.T - np.square(centres).sum(axis=1)  # [n, segments]
    turn = turned(queries)
    search = _compiled if KERNELS.available() else _counted
    keys = search(segments, sizes, turn, np.ascontiguousarray(constants), k, masks)
    return [_unpacked(np.sort(found)[::-1][:k]) for found in keys]


def _compiled(
    segments: Sequence[Codes],
    sizes: Sequence[int],
    turn: NDArray[np.float32],
    constants: NDArray[np.float32],
    k: int,
    masks: Sequence[Mask | None],
) -> list[Keys]:
    library = KERNELS.load()
    count, dimension = turn.shape
    parts, start = np.zeros(len(segments), _PART), 0
    flags = [None if mask is None else np.ascontiguousarray(mask, np.bool_) for mask in masks]
    for i, (codes, size, flag) in enumerate(zip(segments, sizes, flags, strict=True)):
        arrays = (codes.bits, codes.scale, codes.shift, codes.turned_centre)
        mask = 0 if flag is None else flag.ctypes.data
        parts[i] = (*(array.ctypes.data for array in arrays), mask, size, start)
        start += size
    threads = max(1, min(settings().threads or os.cpu_count() or 1, start // _PER_THREAD))
    bounds = [start * i // threads for i in range(threads + 1)]
    keys = np.empty((threads, count, 2 * k + LANES), np.uint64)
    held = np.empty((threads, count), np.int64)
    room = np.empty((threads, count, QUERY_BITS, -(-dimension // 64)), np.uint64)
    turn = np.ascontiguousarray(turn)

    def work(i: int) -> None:
        library.lw_scan(
            parts.ctypes.data, len(parts), bounds[i], bounds[i + 1], dimension, count,
            turn.ctypes.data, constants.ctypes.data, k,
            keys[i].ctypes.data, held[i].ctypes.data, room[i].ctypes.data,
        )  # fmt: skip

    # The calling thread does the last part itself.
    others = [threading.Thread(target=work, args=(i,)) for i in range(threads - 1)]
    for thread in others:
        thread.start()
    work(threads - 1)
    for thread in others:
        thread.join()
    ours = range(threads)
    return [np.concatenate([keys[i, q, : held[i, q]] for i in ours]) for q in range(count)]


def _counted(
    segments: Sequence[Codes],
    sizes: Sequence[int],
    turn: NDArray[np.float32],
    constants: NDArray[np.float32],
    k: int,
    masks: Sequence[Mask | None],
) -> list[Keys]:
    """The same by numpy, in the same order of operations."""
    starts = np.cumsum([0, *sizes])[:-1].tolist()
    found = []
    for query, of_segments in zip(turn, constants, strict=True):
        best = np.zeros(0, np.uint64)
        for codes, start, constant, mask in zip(segments, starts, of_segments, masks, strict=True):
            for place, estimates in _estimates(codes, query, constant):
                keys = _packed(estimates, start + place + np.arange(len(estimates)))
                if mask is not None:
                    keys = keys[mask[place : place + len(estimates)]]
                best = np.concatenate([best, keys])
                if len(best) > k:
                    best = np.partition(best, len(best) - k)[-k:]
        found.append(best)
    return found


def _estimates(
    codes: Codes, query: NDArray[np.float32], constant: np.float32
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    coded = encode_query(query, codes)
    for start in range(0, len(codes), _BLOCK):
        stop = min(start + _BLOCK, len(codes))
        bits = codes.bits[start // LANES : -(-stop // LANES)]  # [blocks, words, LANES]
        n = stop - start
        ones = np.bitwise_count(bits).sum(axis=1, dtype=np.int64).reshape(-1)[:n]
        sums = np.zeros(n, np.int64)
        for p in range(QUERY_BITS):
            common = np.bitwise_count(bits & coded.planes[p][:, None])
            sums += common.sum(axis=1, dtype=np.int64).reshape(-1)[:n] << p
        x = ones.astype(np.float32) * coded.low + sums.astype(np.float32) * coded.step
        x = x + x - coded.total
        yield start, (x * codes.scale[start:stop] + codes.shift[start:stop]) + constant


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
