"""Which passage a sentence rests on: the weighted share of its content words found there.

    share(s, p) = sum of idf(w) for w in s and p  /  sum of idf(w) for w in s
    idf(w)      = 1 + ln((1 + N) / (1 + df(w)))       over the N passages of this answer

Words are stemmed by language; function words are left out. A word that no passage holds weighs
most, one that all hold least, so a sentence that brings in something new loses support quickly.
Numbers must all be there: "in 1891" is not supported by a passage about 1892, however many of
the other words agree. The best passage is taken, the first of equals, if its share reaches the
threshold.

This is unigram containment, the measure behind ROUGE recall (Lin 2004), with the weights of
Sparck Jones (1972). It says where a sentence most likely comes from; it does not see a "not", so
it does not prove that the passage says so. Costs microseconds; needs no model.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from llmwright.core import Hit
from llmwright.retrieval import analyze

THRESHOLD = 0.5
"""Measured on XQuAD, 632 questions with their answers read as statements, each against its own
paragraph and the two most similar others of the article: 0.89 (English) and 0.85 (Russian) are
cited to the right one and 1% to a wrong one; against three wrong ones, 3% are cited
(``tests/answering/test_support.py``). At 0.6 these are 0.80, 0.71, 1% and 2%."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LIST_MARK = re.compile(r"^\s*(?:[-*+•]|\(?\d{1,3}[.)])\s+")
_FUNCTION_WORDS = """
a about after all also an and any are as at be because been before being between both but by can
could did do does each for from had has have he her here his how if in into is it its itself may
might more most must no nor not of on only or other our over s she should so some such t than that
the their them then there these they this those through to too under until up upon us very was we
were what when where which while who whom whose why will with within without would yes you your
а без более больше бы был была были было быть в вам вас весь во вот все всего всех вы где да даже
для до его ее если есть еще же за здесь и из или им их к как какая какие какой ко когда которая
которого которое которой котором которую которые который которых кто ли либо между меня мне может
мы на над нам нас не него нее нет ни них но о об однако он она они оно от очень по под после потому
почему при про с сам свое своей свой своих свою себя со так также такая такие такой там те тем то
того тоже только том ту ты у уже чего чем что чтобы эта эти это этого этой этом этот эту я
"""


class Support:
    """Finds the passage behind a sentence, among those given to the model."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self._languages = [hit.chunk.language for hit in hits]
        texts = [f"{hit.chunk.heading}\n{hit.chunk.text}" for hit in hits]
        self._words = [
            frozenset(analyze(text, language))
            for text, language in zip(texts, self._languages, strict=True)
        ]
        self._numbers = [_numbers(text) for text in texts]
        self._found_in = Counter(word for words in self._words for word in words)

    def shares(self, sentence: str, *, strict_numbers: bool = True) -> list[float]:
        """The share of the sentence in each passage, 0 to 1; 0 where a number of it is missing,
        unless ``strict_numbers`` is off: a question's numbers are not a claim."""
        sentence = _LIST_MARK.sub("", sentence)
        numbers = _numbers(sentence) if strict_numbers else frozenset()
        asked = {code: _content_words(sentence, code) for code in set(self._languages)}
        shares = []
        for words, seen, language in zip(self._words, self._numbers, self._languages, strict=True):
            terms = asked[language]
            total = sum(map(self._idf, terms))
            held = sum(map(self._idf, terms & words))
            shares.append(held / total if total and numbers <= seen else 0.0)
        return shares

    def cite(self, sentence: str) -> int | None:
        """The number, from 1, of the passage that supports the sentence; None where none does."""
        shares = self.shares(sentence)
        best = max(shares, default=0.0)
        return shares.index(best) + 1 if best >= THRESHOLD else None

    def _idf(self, word: str) -> float:
        return 1.0 + math.log((1 + len(self._words)) / (1 + self._found_in[word]))


def _numbers(text: str) -> frozenset[str]:
    """Numbers as written, without the commas and points between thousands: 1,000 is 1000."""
    return frozenset(re.sub(r"[,.](?=\d{3}\b)", "", n) for n in _NUMBER.findall(text))


def _content_words(sentence: str, language: str) -> frozenset[str]:
    return frozenset(analyze(sentence, language)) - _function_words(language)


@lru_cache(maxsize=64)
def _function_words(language: str) -> frozenset[str]:
    return frozenset(analyze(_FUNCTION_WORDS, language))
