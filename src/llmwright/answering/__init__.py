"""The cited answer as a `ChatModel`: retrieve, arrange the context, prompt, generate, cite.

This room knows neither how passages are found nor how text is generated: it is given a search
function and a model, and adds the rules by which the one feeds the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.answering.answerable import coverage_rule, score_rule
    from llmwright.answering.answerer import NO_ANSWER, CitedAnswerer
    from llmwright.answering.citing import CitationStream, cited_numbers
    from llmwright.answering.context import MAX_CONTEXT, ContextSettings, arrange, build_context
    from llmwright.answering.extraction import SentenceExtraction
    from llmwright.answering.passages import Passage
    from llmwright.answering.spans import CitedSpan, cited_spans
    from llmwright.answering.support import Support
    from llmwright.answering.token_compression import TokenCompression

_HOMES = {
    "CitationStream": "citing",
    "CitedAnswerer": "answerer",
    "CitedSpan": "spans",
    "ContextSettings": "context",
    "MAX_CONTEXT": "context",
    "NO_ANSWER": "answerer",
    "Passage": "passages",
    "SentenceExtraction": "extraction",
    "Support": "support",
    "TokenCompression": "token_compression",
    "arrange": "context",
    "build_context": "context",
    "cited_numbers": "citing",
    "cited_spans": "spans",
    "coverage_rule": "answerable",
    "score_rule": "answerable",
}

__all__ = [
    "MAX_CONTEXT",
    "NO_ANSWER",
    "CitationStream",
    "CitedAnswerer",
    "CitedSpan",
    "ContextSettings",
    "Passage",
    "SentenceExtraction",
    "Support",
    "TokenCompression",
    "arrange",
    "build_context",
    "cited_numbers",
    "cited_spans",
    "coverage_rule",
    "score_rule",
]

if not TYPE_CHECKING:  # a gateway that only reads citations needs no stemmer
    __getattr__ = lazy_exports(__name__, _HOMES)
