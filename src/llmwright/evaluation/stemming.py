"""Stems and stop words for English and Russian, chosen by the script of each word.

Snowball stemmers (Porter, "Snowball: A language for stemming algorithms", 2001) for Latin and
Cyrillic words; a word in any other script is its own stem. The language need not be known: both
sides of a comparison are stemmed alike, so a German word still meets itself.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Protocol

from llmwright.core import MissingDependencyError


class _Stemmer(Protocol):
    def stemWord(self, word: str) -> str: ...  # noqa: N802


STOP_WORDS = frozenset(  # a contraction stands here by the part before its apostrophe
    """
    a about above after again all also am an and any are as at be because been before being both
    but by can cannot could did do does doing done down during each few for from further had has
    have having he her here hers him his how i if in into is it its itself just may me might more
    most must my no nor not of off on once only or other our out over own same shall she should so
    some such than that the their them then there these they this those through to too under until
    up upon us very was we were what when where which while who whom why will with would yes you
    your don doesn isn aren didn wasn weren won wouldn couldn shouldn hasn haven
    а без бы был была были было быть в вам вас весь во вот все всего всех вы где да даже для до его
    ее если есть еще же за здесь и из или им их к как какая какие какой когда которая которого
    которое которой которые который которых кто ли лишь между меня мне может можно мой мы на над
    надо нам нас не него нее нет ни них но ну о об однако он она они оно от очень по под при про с
    со так также такая такие такой там те тем то того тоже той только том ты у уже хотя чем через
    что чтобы эта эти это этого этой этом этот я является
    """.split()  # noqa: SIM905
)


@cache
def _stemmer(language: str) -> _Stemmer:
    try:
        import Stemmer
    except ImportError as error:
        raise MissingDependencyError(
            "word stems need PyStemmer",
            where="groundedness",
            fix="run: pip install 'llmwright[rag]'",
        ) from error
    stemmer: _Stemmer = Stemmer.Stemmer(language)
    return stemmer


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The stem of a lower-case word."""
    if "а" <= word[:1] <= "я":
        return _stemmer("russian").stemWord(word)
    if "a" <= word[:1] <= "z":
        return _stemmer("english").stemWord(word)
    return word
