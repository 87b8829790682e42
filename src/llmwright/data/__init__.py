"""Data before any model sees it: documents, their language, chat records, questions.

Names are fetched when first used, so that reading chat records imports no document parser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.data.documents import find_documents, read_documents
    from llmwright.data.language import detect_language, scripts
    from llmwright.data.records import Question, read_examples, read_prompts, read_questions

_HOMES = {
    "Question": "records",
    "detect_language": "language",
    "find_documents": "documents",
    "read_documents": "documents",
    "read_examples": "records",
    "read_prompts": "records",
    "read_questions": "records",
    "scripts": "language",
}

__all__ = [
    "Question",
    "detect_language",
    "find_documents",
    "read_documents",
    "read_examples",
    "read_prompts",
    "read_questions",
    "scripts",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
