"""Passages joined by the names in them: a graph on disk, searched by walks over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.retrieval.graph.filling import Filled, fill_graph
    from llmwright.retrieval.graph.names import name_key, read
    from llmwright.retrieval.graph.pagerank import ppr_search, push
    from llmwright.retrieval.graph.store import EntityGraph

_HOMES = {
    "EntityGraph": "store",
    "Filled": "filling",
    "fill_graph": "filling",
    "name_key": "names",
    "ppr_search": "pagerank",
    "push": "pagerank",
    "read": "names",
}

__all__ = ["EntityGraph", "Filled", "fill_graph", "name_key", "ppr_search", "push", "read"]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
