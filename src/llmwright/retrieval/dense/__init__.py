"""Search by vectors: exact while they are few, by codes of one bit a dimension above that.

``write_segment`` writes the dense part of an index's segment, ``DenseSegment`` opens one,
``dense_search`` ranks the rows of a list of them. For vectors of one's own, ``quantised`` has them
in fewer bytes (INT8, signs, coded signs, short) and ``two_steps`` the second look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.retrieval.dense.quantised import (
        CodedVectors,
        Int8Vectors,
        ShortVectors,
        SignVectors,
        two_steps,
    )
    from llmwright.retrieval.dense.search import dense_search, vectors_of
    from llmwright.retrieval.dense.segment import DenseSegment, write_segment

_HOMES = {
    "CodedVectors": "quantised",
    "DenseSegment": "segment",
    "Int8Vectors": "quantised",
    "ShortVectors": "quantised",
    "SignVectors": "quantised",
    "dense_search": "search",
    "two_steps": "quantised",
    "vectors_of": "search",
    "write_segment": "segment",
}

__all__ = [
    "CodedVectors",
    "DenseSegment",
    "Int8Vectors",
    "ShortVectors",
    "SignVectors",
    "dense_search",
    "two_steps",
    "vectors_of",
    "write_segment",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
