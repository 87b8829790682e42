"""Data before any model sees it: documents, their language, chat records, questions.

Names are fetched when first used, so that reading chat records imports no document parser.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmwright.data.documents import DEFAULT_INCLUDE, find_documents, read_documents
    from llmwright.data.language import detect_language, scripts
    from llmwright.data.records import Question, read_examples, read_questions

_HOMES = {
    "DEFAULT_INCLUDE": "documents",
    "Question": "records",
    "detect_language": "language",
    "find_documents": "documents",
    "read_documents": "documents",
    "read_examples": "records",
    "read_questions": "records",
    "scripts": "language",
}

__all__ = [
    "DEFAULT_INCLUDE",
    "Question",
    "detect_language",
    "find_documents",
    "read_documents",
    "read_examples",
    "read_questions",
    "scripts",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
