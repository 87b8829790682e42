"""Many byte strings end to end, any of them read by number.

Where each begins and the last one ends is an array, [strings + 1] int64; the bytes are an array as
well, or stand in a file of their own that is read by ``pread``. One costs about a microsecond.
"""

from __future__ import annotations

import os
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmwright.retrieval.lexical.arrays import Arrays


class Blobs(Sequence[bytes]):
    """Byte strings by number."""

    def __init__(self, ends: NDArray[np.int64], read: Callable[[int, int], bytes]) -> None:
        """``read`` gives the bytes from one place to another."""
        self._ends, self._read = ends, read

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> bytes:  # type: ignore[override]
        return self._read(*self._ends[number : number + 2].tolist())

    def __iter__(self) -> Iterator[bytes]:
        begin = int(self._ends[0])
        for end in self._ends[1:].tolist():
            yield self._read(begin, end)
            begin = end

    def find(self, wanted: bytes) -> int | None:
        """The number of a string, of strings that are sorted."""
        number = bisect_left(self, wanted)
        return number if number < len(self) and self[number] == wanted else None


def mapped_blobs(arrays: Arrays, name: str) -> Blobs:
    """Strings that were ``packed`` under ``name``."""
    view = arrays[name].data
    return Blobs(arrays[f"{name}.ends"], lambda begin, end: bytes(view[begin:end]))


def packed(name: str, strings: Iterable[bytes]) -> dict[str, NDArray[Any]]:
    """Strings as two arrays."""
    held = list(strings)
    ends = np.cumsum([0, *map(len, held)], dtype=np.int64)
    return {name: np.frombuffer(b"".join(held), np.uint8), f"{name}.ends": ends}


class BlobFile:
    """A file of strings, open for reading also when it has been removed."""

    def __init__(self, path: Path) -> None:
        """Raises ``OSError`` where it cannot be read."""
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        weakref.finalize(self, os.close, self._file)
        self.size = os.fstat(self._file).st_size

    def read(self, begin: int, end: int) -> bytes:
        """Its bytes from one place to another."""
        parts = []
        while begin < end and (part := os.pread(self._file, end - begin, begin)):
            parts.append(part)
            begin += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def write_blobs(path: Path, *groups: Iterable[bytes]) -> list[NDArray[np.int64]]:
    """Write groups of strings into one file; for each, where its strings begin and end."""
    ends, place = [], 0
    with path.open("wb") as file:
        for group in groups:
            own = [place]
            for string in group:
                file.write(string)
                place += len(string)
                own.append(place)
            ends.append(np.array(own, np.int64))
    return ends
