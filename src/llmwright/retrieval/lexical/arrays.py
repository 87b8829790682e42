"""Arrays in one file that is mapped, and read in parts: safetensors, for its plain header.

A page of a mapped file counts as memory in use from the first time it is touched, and the system
brings in its neighbours as well. So what each query reads somewhere else (a few hundred bytes of
gigabytes) is read by ``pread``, and what all of them search is mapped.
"""

from __future__ import annotations

import json
import mmap
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

_TYPES = {
    "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64,
    "I32": np.int32, "I64": np.int64,
}  # fmt: skip


class Arrays:
    """An open file of arrays; it can be read when the file has been removed. Safe to use from
    many threads."""

    def __init__(self, path: Path) -> None:
        """Raises ``OSError`` or ``ValueError`` where it cannot be read."""
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        weakref.finalize(self, os.close, self._file)
        size = os.fstat(self._file).st_size
        length = int.from_bytes(os.pread(self._file, 8, 0), "little")
        if not 0 < length <= size - 8:
            raise ValueError(f"{path.name} is cut short")
        header: dict[str, Any] = json.loads(os.pread(self._file, length, 8))
        self._places: dict[str, tuple[Any, list[int], int]] = {}
        for name, about in header.items():
            begin, end = (8 + length + offset for offset in about["data_offsets"])
            if end > size:
                raise ValueError(f"{path.name} is cut short")
            self._places[name] = (np.dtype(_TYPES[about["dtype"]]), about["shape"], begin)
        self._map = memoryview(mmap.mmap(self._file, 0, access=mmap.ACCESS_READ))

    def __getitem__(self, name: str) -> NDArray[Any]:
        """One of them, mapped. Raises ``KeyError`` where there is none of that name."""
        kind, shape, begin = self._places[name]
        view = self._map[begin : begin + int(np.prod(shape)) * kind.itemsize]
        return np.frombuffer(view, kind).reshape(shape)

    def read(self, name: str, begin: int, end: int) -> NDArray[Any]:
        """Places ``begin`` to ``end`` of one of them, which has one dimension, by ``pread``."""
        kind, _, offset = self._places[name]
        size = (end - begin) * kind.itemsize
        return np.frombuffer(os.pread(self._file, size, offset + begin * kind.itemsize), kind)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays of whole numbers into one file."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
