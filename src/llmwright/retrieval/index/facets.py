"""Which chunks of a segment have a given value of their metadata: an inverted file of pairs.

A pair is the JSON of [name, value]. A chunk's pairs are its metadata and, under names that its
metadata do not use, its ``document_id``, ``language`` and ``heading``. Pairs are compared whole,
never by a hash, so a filter cannot let another value pass.

Cost: a look-up is a binary search, about 10 microseconds a segment and pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmwright.core import Chunk
from llmwright.retrieval.index.blobs import mapped_blobs, packed
from llmwright.retrieval.index.records import OWN_FIELDS, to_json
from llmwright.retrieval.lexical.arrays import Arrays
from llmwright.retrieval.lexical.scoring import posting_order

_NAME = "facets"


class Facets:
    """An open inverted file."""

    def __init__(self, arrays: Arrays) -> None:
        """Raises ``KeyError`` where the file does not hold it."""
        self.pairs = mapped_blobs(arrays, _NAME)  # sorted
        self.starts = arrays[f"{_NAME}.starts"]  # [pairs + 1] int64
        self.rows = arrays[f"{_NAME}.rows"]  # uint16, ascending within a pair

    def mask(self, wanted: Mapping[str, Any], count: int) -> NDArray[np.bool_]:
        """Which of ``count`` chunks have all of the wanted values."""
        allowed = np.ones(count, np.bool_)
        for name, value in wanted.items():
            held = np.zeros(count, np.bool_)
            number = self.pairs.find(_pair(name, value))
            if number is not None:
                held[self.rows[slice(*self.starts[number : number + 2])]] = True
            allowed &= held
        return allowed


def facets(chunks: Iterable[Chunk]) -> dict[str, NDArray[Any]]:
    """The arrays that hold the pairs of chunks, whose rows are their order."""
    numbers: dict[bytes, int] = {}
    places: list[int] = []
    sizes: list[int] = []
    for chunk in chunks:
        values = {name: getattr(chunk, name) for name in OWN_FIELDS} | dict(chunk.metadata)
        places += [
            numbers.setdefault(_pair(name, value), len(numbers)) for name, value in values.items()
        ]
        sizes.append(len(values))
    rows = np.repeat(np.arange(len(sizes), dtype=np.uint16), sizes)
    return _arrays(list(numbers), np.array(places, np.int32), rows, len(sizes))


def merged_facets(
    parts: Sequence[Facets], moved: Sequence[NDArray[np.int64]], count: int
) -> dict[str, NDArray[Any]]:
    """The arrays for several segments together; ``moved`` says which of ``count`` rows each chunk
    gets, -1 for one that is dropped."""
    numbers: dict[bytes, int] = {}
    places, rows = [], []
    for part, to in zip(parts, moved, strict=True):
        own = [numbers.setdefault(pair, len(numbers)) for pair in part.pairs]
        place = np.repeat(np.array(own, np.int32), np.diff(part.starts))
        row = to[part.rows]
        places.append(place[row >= 0])
        rows.append(row[row >= 0].astype(np.uint16))
    return _arrays(list(numbers), np.concatenate(places), np.concatenate(rows), count)


def _pair(name: str, value: Any) -> bytes:
    return to_json([name, value]).encode()


def _arrays(
    pairs: list[bytes], places: NDArray[np.int32], rows: NDArray[np.uint16], count: int
) -> dict[str, NDArray[Any]]:
    used = np.bincount(places, minlength=len(pairs))
    order = [n for n in sorted(range(len(pairs)), key=pairs.__getitem__) if used[n]]
    rank = np.zeros(len(pairs), np.int32)
    rank[order] = np.arange(len(order))
    by_pair = posting_order(rank[places], rows, len(order), count)
    return {
        **packed(_NAME, (pairs[number] for number in order)),
        f"{_NAME}.starts": np.concatenate([[0], np.cumsum(used[order])]).astype(np.int64),
        f"{_NAME}.rows": rows[by_pair],
    }
