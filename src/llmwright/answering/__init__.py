"""The cited answer as a `ChatModel`: retrieve, arrange the context, prompt, generate, cite.

This room knows neither how passages are found nor how text is generated: it is given a search
function and a model, and adds the rules by which the one feeds the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.answering.answerer import NO_ANSWER, CitedAnswerer
    from llmwright.answering.citing import CitationStream, cited_numbers
    from llmwright.answering.context import arrange
    from llmwright.answering.support import Support

_HOMES = {
    "NO_ANSWER": "answerer",
    "CitedAnswerer": "answerer",
    "CitationStream": "citing",
    "cited_numbers": "citing",
    "arrange": "context",
    "Support": "support",
}

__all__ = [
    "NO_ANSWER",
    "CitationStream",
    "CitedAnswerer",
    "Support",
    "arrange",
    "cited_numbers",
]

if not TYPE_CHECKING:  # a gateway that only reads citations needs no stemmer
    __getattr__ = lazy_exports(__name__, _HOMES)
