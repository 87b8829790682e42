"""Search by vectors: exact while they are few, by codes of one bit a dimension above that.

``write_segment`` writes the dense part of an index's segment, ``DenseSegment`` opens one,
``dense_search`` ranks the rows of a list of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.retrieval.dense.search import dense_search, vectors_of
    from llmwright.retrieval.dense.segment import DenseSegment, write_segment

_HOMES = {
    "DenseSegment": "segment",
    "dense_search": "search",
    "vectors_of": "search",
    "write_segment": "segment",
}

__all__ = ["DenseSegment", "dense_search", "vectors_of", "write_segment"]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
