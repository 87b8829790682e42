"""The head of a GGUF file: its metadata, among them the vocabulary, and where its tensors lie.

Layout (ggml's docs/gguf.md, version 2 and 3, little-endian)::

    "GGUF"  version:u32  tensors:u64  pairs:u64
    pairs   x (key:string  type:u32  value)                  a string is length:u64 and its bytes
    tensors x (name:string dims:u32 dim:u64... type:u32 offset:u64)
    padding to general.alignment, then the tensors' bytes

Types and block sizes are the ``gguf`` package's. Its ``GGUFReader`` is not used for the head: it
makes a memory-mapped array of every string and takes 3.3 s over SmolLM2's 49,152 tokens and their
merges, where this takes 0.1 s. A test holds the two against each other.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from llmwright.core import ModelSourceError

_SCALARS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
}


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """Where one tensor lies. ``shape`` is in PyTorch's order: [rows, columns]."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int  # from the start of the file
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """What a GGUF file says before its weights."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GGUFTensor]


def read_gguf(path: Path) -> GGUFHeader:
    """Read the head of a GGUF file, and check that every tensor lies within the file.

    Raises ``ModelSourceError`` where it is not GGUF, cut short, or of an unknown kind.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise _broken(path, "not a GGUF file (its first four bytes are not 'GGUF')")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Reader(path, content).header()
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        reason = getattr(error, "strerror", None) or error
        raise _broken(path, f"cannot be read ({reason})") from error


def _broken(path: Path, what: str) -> ModelSourceError:
    return ModelSourceError(what, where=str(path), fix="fetch the file again")


class _Reader:
    """A cursor over the bytes of the head."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.path = path
        self.content = content
        self.at = 4

    def header(self) -> GGUFHeader:
        version = self.scalar("<I")
        if version not in (2, 3):
            raise ModelSourceError(
                f"GGUF version {version} is not supported",
                where=str(self.path),
                fix="convert it with a current llama.cpp, little-endian",
            )
        tensors, pairs = self.scalar("<Q"), self.scalar("<Q")
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self.string()
            metadata[key] = self.value(self.scalar("<I"))
        infos = [self.tensor_info() for _ in range(tensors)]
        alignment = int(metadata.get("general.alignment", 32)) or 32
        start = -(-self.at // alignment) * alignment
        found: dict[str, GGUFTensor] = {}
        for name, shape, kind, offset in infos:
            size = self.size(name, shape, kind)
            if start + offset + size > len(self.content):
                raise _broken(
                    self.path,
                    f"the file is cut short: tensor {name!r} ends at byte "
                    f"{start + offset + size:,} of {len(self.content):,}",
                )
            found[name] = GGUFTensor(name, shape, kind, start + offset, size)
        return GGUFHeader(self.path, metadata, found)

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.content):
            raise _broken(self.path, "the file is cut short within its head")
        taken = self.content[self.at : end]
        self.at = end
        return taken

    def scalar(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def string(self) -> str:
        return self.take(self.scalar("<Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[GGUFValueType(kind)])
        if kind == GGUFValueType.STRING:
            return self.string()
        if kind != GGUFValueType.ARRAY:
            raise _broken(self.path, f"a value has the unknown type {kind}")
        inner, count = self.scalar("<I"), self.scalar("<Q")
        if inner in _SCALARS:
            code = _SCALARS[GGUFValueType(inner)]
            return np.frombuffer(self.take(count * struct.calcsize(code)), code).tolist()
        if count > len(self.content):  # each element takes 8 bytes or more
            raise _broken(self.path, "the file is cut short within its head")
        return [self.value(inner) for _ in range(count)]

    def tensor_info(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name = self.string()
        dimensions = self.scalar("<I")
        if dimensions > 8:
            raise _broken(self.path, f"tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self.scalar("<Q") for _ in range(dimensions))[::-1]
        number = self.scalar("<I")
        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            raise _broken(self.path, f"tensor {name!r} has the unknown type {number}") from None
        return name, shape, kind, self.scalar("<Q")

    def size(self, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
        block, size = GGML_QUANT_SIZES[kind]
        if not shape or shape[-1] % block:
            raise _broken(self.path, f"tensor {name!r} of {shape} has no whole {kind.name} blocks")
        return int(prod(shape) // block * size)
