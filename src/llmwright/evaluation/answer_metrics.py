"""Exact match and token F1 of an answer against reference answers, as SQuAD defines them.

Both texts are lowercased, stripped of punctuation and of the articles a, an, the, and split at
white space. Exact match asks whether the results are equal; F1 is over the multiset of tokens:

    precision = |common| / |answer|,  recall = |common| / |reference|,  F1 = 2 P R / (P + R)

Where either side has no token left, both figures are 1 if the other has none too, else 0. With
several references the best one counts. Rajpurkar et al. (2016), arXiv 1606.05250; the rule for
empty answers from SQuAD 2.0, arXiv 1806.03822. Cost: linear in the texts.

Equal to the official script on ASCII text. Beyond ASCII: every Unicode punctuation mark is
dropped, Russian ё counts as е, and each Chinese or Japanese character is a token of its own
(as in MLQA, arXiv 1910.07475). Citations like ``[1]`` are dropped from the answer first.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_CITATION = re.compile(r"[ \u00a0]?\[\d{1,3}(?:, ?\d{1,3}){0,20}\]")
_WORDLESS = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
_PUNCTUATION = frozenset(string.punctuation)


@lru_cache(maxsize=4096)
def _dropped(character: str) -> bool:
    return character in _PUNCTUATION or unicodedata.category(character).startswith("P")


def strip_citations(text: str) -> str:
    """The text without ``[1]`` and ``[1, 2]`` marks and the blank before each."""
    return _CITATION.sub("", text)


def normalize_answer(text: str) -> str:
    """Lowercase, no punctuation, no English articles, one blank between tokens."""
    text = unicodedata.normalize("NFC", text).lower().replace("ё", "е")
    text = "".join(character for character in text if not _dropped(character))
    text = _ARTICLES.sub(" ", text)
    return " ".join(_WORDLESS.sub(r" \1 ", text).split())


def _references(gold: str | Sequence[str]) -> list[str]:
    return [normalize_answer(g) for g in ([gold] if isinstance(gold, str) else gold)]


def exact_match(answer: str, gold: str | Sequence[str]) -> float:
    """1.0 where the normalised answer equals a normalised reference, else 0.0."""
    return float(normalize_answer(strip_citations(answer)) in _references(gold))


def token_f1(answer: str, gold: str | Sequence[str]) -> float:
    """The best token F1 over the references; 0.0 where there is none."""
    tokens = normalize_answer(strip_citations(answer)).split()
    return max((_f1(tokens, reference.split()) for reference in _references(gold)), default=0.0)


def _f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    if not answer or not reference:
        return float(not answer and not reference)
    common = sum((Counter(answer) & Counter(reference)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(answer), common / len(reference)
    return 2 * precision * recall / (precision + recall)
