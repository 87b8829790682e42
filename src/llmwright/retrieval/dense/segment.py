"""The dense part of one segment of an index: a file that is written once and then only read.

    dense.safetensors    votes    [rows]                     whether the row has a vector at all
                         vectors  [voting, dimension]        float32, read row by row when needed
                         bits     [blocks, words, LANES]     codes of one bit a dimension
                         scale, shift [voting], centre [dimension]       the rest of the codes

A row votes where the embedder knows its language; only voting rows have a vector. Codes (an
eighth of a byte a dimension) are read into memory at the first approximate search; vectors are
read by ``pread`` where a search wants them exactly, so they do not count as memory in use, and a
reader whose folder was removed meanwhile goes on reading.
"""

from __future__ import annotations

import json
import os
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmwright.core import InputError, atomic_write
from llmwright.retrieval.dense.codes import LANES, Codes, encode, turned
from llmwright.retrieval.dense.scan import KERNELS

FILE = "dense.safetensors"
_BLOCK = 8192  # vectors encoded at once; a multiple of LANES
_TYPES = {"F32": np.float32, "U64": np.uint64, "BOOL": np.bool_}
_FIX = "copy the whole folder again, or index the documents again"

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


class DenseSegment:
    """An open segment. Safe to use from many threads."""

    def __init__(self, folder: Path) -> None:
        """Open ``folder``/dense.safetensors. Raises ``InputError`` where it cannot be read."""
        self.path = folder / FILE
        try:
            self._file = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise InputError(
                f"cannot be read ({error.strerror})", where=str(self.path), fix=_FIX
            ) from error
        weakref.finalize(self, os.close, self._file)
        self._places = self._header()
        self.votes: Mask = self._tensor("votes")
        """[rows]: whether the row has a vector."""
        self.rows = len(self.votes)
        self.voting, self.dimension = self._places["vectors"][1]

    def __repr__(self) -> str:
        return f"DenseSegment({str(self.path)!r}, rows={self.rows}, voting={self.voting})"

    @cached_property
    def codes(self) -> Codes:
        """The codes of the voting rows, in memory."""
        bits, scale, shift, centre = map(self._tensor, ("bits", "scale", "shift", "centre"))
        return Codes(bits, scale, shift, centre, turned(centre[None])[0])

    @cached_property
    def matrix(self) -> Floats:
        """All vectors in memory: [voting, dimension]. For segments that are small."""
        return self._tensor("vectors")

    @cached_property
    def row_of(self) -> NDArray[np.int64] | None:
        """The row of each voting one; None where all vote."""
        return None if self.voting == self.rows else np.flatnonzero(self.votes)

    @cached_property
    def _place_of(self) -> NDArray[np.int64] | None:
        return None if self.voting == self.rows else np.cumsum(self.votes) - 1

    def voting_mask(self, mask: Mask | None) -> Mask | None:
        """A mask over rows as one over the voting ones."""
        return mask if mask is None or self.voting == self.rows else mask[self.votes]

    def place(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where voting rows stand among the voting ones."""
        return rows if self._place_of is None else self._place_of[rows]

    def vectors(self, rows: NDArray[np.int64]) -> Floats:
        """The vectors of some voting rows: [len(rows), dimension], read from the file."""
        return self.at(self.place(rows))

    def at(self, places: NDArray[np.int64]) -> Floats:
        """Vectors by their place among the voting rows."""
        places = np.ascontiguousarray(places, np.int64)
        out = np.empty((len(places), self.dimension), np.float32)
        offset, size = self._places["vectors"][2], 4 * self.dimension
        if len(places) and (places.min() < 0 or places.max() >= self.voting):
            raise IndexError(f"{self.path} holds {self.voting} vectors")
        if KERNELS.available():
            failed = KERNELS.load().lw_gather(
                self._file, offset, size, places.ctypes.data, len(places), out.ctypes.data
            )
            if failed:
                raise self._damaged("its vectors end too early")
        else:
            for place, row in zip(places.tolist(), out, strict=True):
                self._into(row, offset + place * size)
        return out

    def _header(self) -> dict[str, tuple[Any, tuple[int, ...], int]]:
        """Type, shape and place in the file by name."""
        try:
            length = int.from_bytes(os.pread(self._file, 8, 0), "little")
            header = json.loads(os.pread(self._file, min(length, 1 << 20), 8))
            places = {
                name: (_TYPES[about["dtype"]], tuple(about["shape"]), 8 + length + begin)
                for name, about in header.items()
                for begin in about["data_offsets"][:1]
            }
            if places.keys() != {"votes", "vectors", "bits", "scale", "shift", "centre"}:
                raise KeyError("other tensors")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(f"its header is damaged: {error}") from error
        return places

    def _tensor(self, name: str) -> NDArray[Any]:
        kind, shape, offset = self._places[name]
        out = np.empty(shape, kind)
        self._into(out, offset)
        return out

    def _into(self, out: NDArray[Any], offset: int) -> None:
        view = out.reshape(-1).view(np.uint8).data
        while len(view):
            got = os.preadv(self._file, [view], offset)
            if got <= 0:
                raise self._damaged("it ends too early")
            view, offset = view[got:], offset + got

    def _damaged(self, what: str) -> InputError:
        return InputError(f"cannot be read ({what})", where=str(self.path), fix=_FIX)


def write_segment(folder: Path, vectors: Floats, votes: Mask) -> None:
    """Write the dense part of a segment into ``folder``.

    ``votes``: [rows]; ``vectors``: [rows that vote, dimension] unit vectors, in the order of
    the rows.
    """
    n, dimension = vectors.shape
    if int(votes.sum()) != n:
        raise ValueError(f"{int(votes.sum())} rows vote, and {n} vectors are given")
    words = -(-dimension // 64)
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "vectors": ("F32", (n, dimension)),
        "bits": ("U64", (-(-n // LANES), words, LANES)),
        "scale": ("F32", (n,)),
        "shift": ("F32", (n,)),
        "centre": ("F32", (dimension,)),
        "votes": ("BOOL", (len(votes),)),
    }
    header, end = {}, 0
    for name, (kind, shape) in shapes.items():
        begin, size = end, int(np.prod(shape, dtype=np.int64)) * np.dtype(_TYPES[kind]).itemsize
        end = begin + size
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(folder / FILE) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(np.ascontiguousarray(vectors, np.float32).data)
        centre = (vectors.sum(axis=0, dtype=np.float64) / max(1, n)).astype(np.float32)
        blocks = range(0, n, _BLOCK)
        codes = [encode(vectors[start : start + _BLOCK], centre) for start in blocks]
        for name in ("bits", "scale", "shift"):
            for part in codes:
                file.write(getattr(part, name).data)
        file.write(centre.data)
        file.write(np.ascontiguousarray(votes, np.bool_).data)
