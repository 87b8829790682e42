"""Many byte strings in one file, any of them read by number: a file and where each string ends.

    NAME.blob   the strings, one behind the other
    NAME.npy    [strings + 1] int64, where each begins and the last one ends

Mapped for reading, so that only what is asked for is read, and a reader keeps it when the folder
goes. Reading one costs about a microsecond.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from llmwright.retrieval.lexical.postings import map_array


class Blobs(Sequence[bytes]):
    """An open file of byte strings."""

    def __init__(self, folder: Path, name: str) -> None:
        """Raises ``OSError`` or ``ValueError`` where the files cannot be read."""
        self._ends = map_array(folder / f"{name}.npy")
        with (folder / f"{name}.blob").open("rb") as file:
            size = file.seek(0, 2)
            if size != int(self._ends[-1]):
                raise ValueError(f"{name}.blob holds {size} bytes, not {self._ends[-1]}")
            # An empty file cannot be mapped.
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> bytes:  # type: ignore[override]
        return self._bytes[self._ends[number] : self._ends[number + 1]]

    def __iter__(self) -> Iterator[bytes]:
        begin = 0
        for end in self._ends[1:].tolist():
            yield self._bytes[begin:end]
            begin = end

    def find(self, wanted: bytes) -> int | None:
        """The number of a string, of strings that are sorted."""
        number = bisect_left(self, wanted)
        return number if number < len(self) and self[number] == wanted else None


def write_blobs(folder: Path, name: str, strings: Iterable[bytes]) -> None:
    """Write strings as ``name`` into a folder."""
    ends = [0]
    with (folder / f"{name}.blob").open("wb") as file:
        for string in strings:
            file.write(string)
            ends.append(ends[-1] + len(string))
    np.save(folder / f"{name}.npy", np.array(ends, np.int64))
