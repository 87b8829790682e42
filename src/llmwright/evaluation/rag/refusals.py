"""Answers that say there is no answer: when they should, and when they should not.

    refused_unanswerable = share of the questions without an answer in the documents that were
                           refused                                       (1 is best)
    refused_answerable   = share of the questions with one that were     (0 is best)

Two rates, since one alone is perfect for a system that always, or never, refuses (Rajpurkar, Jia
and Liang, 2018, "Know What You Don't Know", arXiv 1806.03822). An answer refuses where its first
sentence, or its only one of any substance, says so by one of the usual phrases, in English or
Russian. An answer that first says something and then hedges does not count. Cost: linear.
"""

from __future__ import annotations

import re

from llmwright.evaluation.answer_metrics import strip_citations
from llmwright.evaluation.groundedness import split_sentences

_NOT = (
    r"(?:do(?:es)?|did|is|are|was|were|can|could|has|have)(?:n['’]t|\s+not)|cannot|no|nothing|never"
)
_REFUSAL = re.compile(
    r"\bi\s+(?:really\s+)?(?:do\s+not|don['’]t)\s+know\b"
    r"|\b(?:unable|impossible)\s+to\s+(?:answer|determine|find|say)\b"
    r"|\b(?:i|we)\s+(?:can\s?not|can['’]t|could\s?n['’]t|could\s+not|am\s+not\s+able\s+to|"
    r"(?:do|did)(?:n['’]t|\s+not)\s+(?:have|find|see))\b.{0,60}?"
    r"\b(?:answer|find|found|information|determine|say|details?|context|passages?|documents?)\b"
    r"|\b(?:found|find)\s+nothing\b"
    r"|\b(?:passages?|documents?|context|text|information|sources?|article)\b.{0,40}?"
    rf"\b(?:{_NOT})\b.{{0,40}}?\b(?:answer\w*|mention\w*|contain\w*|provid\w*|hold\w*|say|specif\w*|"
    r"stat\w*|includ\w*|given|found|available|information|enough|sufficient)\b"
    r"|\b(?:there\s+is|there['’]s)\s+(?:no|not\s+enough|insufficient)\b.{0,30}?"
    r"\b(?:information|answer|mention|evidence|data)\b"
    r"|\bnot\s+(?:in|found\s+in|mentioned\s+in|stated\s+in|given\s+in|available\s+in)\s+the\s+"
    r"(?:documents?|passages?|context|text|sources?)\b"
    r"|\b(?:no|not\s+enough|insufficient)\s+(?:information|answer)\b"
    r"|\bя\s+не\s+знаю\b|\bне\s+(?:знаю|могу\s+ответить|нашел|нашла|нашлось|найдено)\b"
    r"|\b(?:в|документ\w*|текст\w*|контекст\w*|отрывк\w*|фрагмент\w*)\b.{0,40}?"
    r"\b(?:нет|не\s+(?:содерж\w*|указ\w*|упомин\w*|говор\w*|сказано|найден\w*))\b.{0,30}",
    re.IGNORECASE,
)


def refuses(answer: str) -> bool:
    """Whether the answer begins by saying that it cannot answer; an empty one does."""
    sentences = split_sentences(strip_citations(answer).replace("ё", "е"))
    return not sentences or _REFUSAL.search(sentences[0]) is not None
