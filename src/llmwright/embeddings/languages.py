"""Which languages an embedding model was trained on.

An embedder that does not know a language still returns vectors for it, and they are close to
noise: all-MiniLM-L6-v2 puts the right one of 120 Russian paragraphs first for 11% of questions,
stemmed BM25 for 91%. A dense retriever must therefore know when to stay silent.

What is known, in this order: the table of models whose cards were read, by name; the card
itself (``language:`` in the front matter of README.md), where the folder has one; else nothing,
which counts as any language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from llmwright.core import read_text

_ENGLISH = frozenset({"en"})
_CHINESE = frozenset({"zh"})

# Patterns for the last part of a model's name, in lower case; None is many languages.
_KNOWN: tuple[tuple[str, frozenset[str] | None], ...] = (
    (r".*multilingual.*|labse|distiluse.*|bge-m3|.*-m3", None),
    (r"(gt-)?all-(minilm|mpnet|distilroberta|roberta).*", _ENGLISH),
    (r"minilm-l(6|12)-h384-uncased", _ENGLISH),
    (r"(multi-qa|msmarco|paraphrase|nli|stsb)-.*", _ENGLISH),
    (r"bge-(micro|small|base|large)-en.*|bge-micro.*", _ENGLISH),
    (r"bge-(small|base|large)-zh.*", _CHINESE),
    (r"e5-(small|base|large)(-v2)?", _ENGLISH),
    (r"gte-(tiny|small|base|large)(-en.*)?", _ENGLISH),
    (r"nomic-embed-text-v1(\.5)?|snowflake-arctic-embed-(xs|s|m|l)|mxbai-embed-.*", _ENGLISH),
    (r"bert-(base|large)-(un)?cased", _ENGLISH),
)
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?\n)---", re.DOTALL)
_LANGUAGE = re.compile(r"^languages?:[ \t]*(\S.*)?$((?:\n[ \t]*-[ \t]*\S+[ \t]*$)*)", re.MULTILINE)


def model_languages(names: Iterable[str], folder: Path | None = None) -> frozenset[str] | None:
    """ISO 639-1 codes a model knows, ``None`` meaning any or not known.

    ``names`` are what the model goes by (source, name in its configuration), best first.
    """
    for name in names:
        last = re.split(r"[/:#\\]", name.strip().rstrip("/\\"))[-1]
        last = re.split("[@=]", last)[0].lower().replace("_", "-")
        for pattern, languages in _KNOWN:
            if re.fullmatch(pattern, last):
                return languages
    card = folder / "README.md" if folder else None
    return _from_card(read_text(card)) if card and card.is_file() else None


def _from_card(text: str) -> frozenset[str] | None:
    front = _FRONT_MATTER.match(text)
    found = _LANGUAGE.search(front[1]) if front else None
    if not found:
        return None
    # "language: en", "language: [en, de]", or a list with one "- en" a line
    codes = set(re.findall(r"[A-Za-z-]+", f"{found[1] or ''} {found[2].replace('- ', ' ')}"))
    # A "multilingual" or a code of three letters is beyond what detection tells: any language.
    if not codes or not all(re.fullmatch(r"[a-z]{2}", code.lower()) for code in codes):
        return None
    return frozenset(code.lower() for code in codes)
