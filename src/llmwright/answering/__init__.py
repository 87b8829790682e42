"""The cited answer as a `ChatModel`: retrieve, arrange the context, prompt, generate, cite.

This room knows neither how passages are found nor how text is generated: it is given a search
function and a model, and adds the rules by which the one feeds the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.answering.answerer import NO_ANSWER, CitedAnswerer, Search
    from llmwright.answering.citing import CitationStream, cited_numbers
    from llmwright.answering.context import MAX_CONTEXT, arrange
    from llmwright.answering.support import THRESHOLD, Support

_HOMES = {
    "NO_ANSWER": "answerer",
    "CitedAnswerer": "answerer",
    "Search": "answerer",
    "CitationStream": "citing",
    "cited_numbers": "citing",
    "MAX_CONTEXT": "context",
    "arrange": "context",
    "THRESHOLD": "support",
    "Support": "support",
}

__all__ = [
    "MAX_CONTEXT",
    "NO_ANSWER",
    "THRESHOLD",
    "CitationStream",
    "CitedAnswerer",
    "Search",
    "Support",
    "arrange",
    "cited_numbers",
]

if not TYPE_CHECKING:  # a gateway that only reads citations needs no stemmer
    __getattr__ = lazy_exports(__name__, _HOMES)
