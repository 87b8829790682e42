"""What every vector store does, and what is checked before and after it does so.

A store keeps unit vectors under ids, each with metadata of strings, and finds the nearest ones by
cosine among those whose metadata agree with a filter. Adapters to other people's stores hand over
two things made here instead of the caller's own strings:

* ``key(id)``, a UUID made of the id: some stores take no other ids, and some put ids into a query
  language without quoting them;
* ``label(name, value)``, 32 hexadecimal digits made of a pair of metadata: a filter is then "has
  all these labels", which each store can index, and which no character of a value can break.

The metadata themselves travel as one JSON text, and a filter is checked against them again when
results come back (``best``): a store that lets a filtered entry slip, or that returns it with a
score of 0, cannot leak it.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from llmwright.core import ConfigurationError, InputError, canonical_json

_NAMESPACE = uuid.UUID("5f3c0c64-7d5b-5c0e-9a53-2f0d0a4e1d11")
_DECIMALS = 6  # stores sum in different orders; equal entries must tie


@dataclass(frozen=True, slots=True)
class Entry:
    """One vector, [dimension] of length 1, with what is known of it."""

    id: str
    vector: NDArray[np.float32]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """An entry found, with its cosine to the query."""

    id: str
    score: float
    metadata: Mapping[str, str]


@runtime_checkable
class VectorStore(Protocol):
    """Anything that keeps entries and finds the nearest. Not for several writers at once."""

    @property
    def dimension(self) -> int: ...

    def upsert(self, entries: Sequence[Entry]) -> None:
        """Add entries, replacing those of the same ids."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove entries; unknown ids are passed over."""

    def search(
        self,
        vector: NDArray[np.float32],
        top: int = 10,
        filter: Mapping[str, str] | None = None,
    ) -> list[Found]:
        """The ``top`` nearest entries whose metadata hold all of ``filter``, best first, equal
        ones by id."""

    def count(self) -> int:
        """How many entries it holds."""

    def close(self) -> None:
        """Let go of files and connections."""


def key(identity: str) -> str:
    """A UUID that stands for an id, the same everywhere."""
    return str(uuid.uuid5(_NAMESPACE, identity))


def label(name: str, value: str) -> str:
    """32 hexadecimal digits that stand for ``metadata[name] == value``."""
    return hashlib.blake2b(canonical_json([name, value]).encode(), digest_size=16).hexdigest()


def labels(metadata: Mapping[str, str] | None) -> list[str]:
    """The labels of all pairs, sorted."""
    return sorted(label(name, value) for name, value in (metadata or {}).items())


def check_entries(entries: Sequence[Entry], dimension: int) -> None:
    """Raises ``InputError`` for an id that is empty or given twice, a vector of another dimension
    or length, and metadata that are not text."""
    seen: set[str] = set()
    for entry in entries:
        where = f"entry {entry.id!r}"
        if not entry.id or entry.id in seen:
            what = "the id is given twice" if entry.id else "the id is empty"
            raise InputError(what, where=where, fix="give each entry an id of its own")
        seen.add(entry.id)
        for value in (*entry.metadata, *entry.metadata.values()):
            if not isinstance(value, str):
                raise InputError(f"metadata hold {value!r}", where=where, fix="write it as text")
        _check_vector(entry.vector, dimension, where)


def check_query(vector: NDArray[np.float32], top: int, dimension: int) -> None:
    """Raises ``InputError`` for a vector, ``ConfigurationError`` for a ``top`` that is not one."""
    if top < 1:
        raise ConfigurationError(f"top is {top}", where="search", fix="give 1 or more")
    _check_vector(vector, dimension, "query")


def _check_vector(vector: NDArray[np.float32], dimension: int, where: str) -> None:
    if vector.shape != (dimension,):
        raise InputError(
            f"the vector has the shape {vector.shape}, the store has the dimension {dimension}",
            where=where,
            fix="embed with the model that the store was made for",
        )
    if not abs(float(np.linalg.norm(vector)) - 1.0) < 1e-3:  # not: NaN is no length either
        raise InputError(
            "the vector does not have the length 1", where=where, fix="normalise it first"
        )


def best(found: Iterable[Found], top: int, filter: Mapping[str, str] | None) -> list[Found]:
    """Of what a store returned, the entries that may be seen, best first, equal ones by id."""
    wanted = (filter or {}).items()
    allowed = [
        Found(one.id, round(one.score, _DECIMALS), one.metadata)
        for one in found
        if all(one.metadata.get(name) == value for name, value in wanted)
    ]
    return sorted(allowed, key=lambda one: (-one.score, one.id))[:top]
