"""From text to index terms, for any script.

Four steps: normalise (NFKC, case folding, ё to е, Arabic vowel marks dropped), cut into words,
cut the words of scripts written without spaces into n-grams, stem the rest with Snowball. The
stemmer is chosen word by word: by the word's script, and within it by the language of the text,
so that an English product name inside a Russian paragraph is stemmed as English.

* Words are runs of letters, digits *and combining marks*. Python's ``\\w`` leaves the marks out
  and so tears every Hindi, Bengali or Tamil word at its vowel signs.
* Chinese, Japanese and Korean runs give their characters and their overlapping pairs. Pairs do
  as well as a word segmenter (Nie, Gao, Zhang and Zhou, "On the use of words and n-grams for
  Chinese information retrieval", 2000); the single characters let a one-character query match.
* Thai, Lao, Khmer and Burmese runs give overlapping triples.

A query is asked in every language its index holds: each word stands for the set of stems that
any of those stemmers gives it. A text was stemmed by one stemmer, so a set rarely meets the
same text twice, and a short query whose language was guessed wrong loses nothing.

* Longer words also give their character 4-grams (:func:`fragments`), which BM25 counts beside the
  stems: "химия" and "химический", "gearbox" and "gear" share no stem but most of their letters
  (McNamee and Mayfield, "Character N-Gram Tokenization for European Language Text Retrieval",
  2004, who find 4 best across languages).

Cost: about 2 million words a minute on one core; stems are remembered.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import Stemmer

# ISO 639-1 code to the name of its Snowball algorithm, by the script the algorithm reads.
_LATIN = {
    "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "en": "english",
    "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fi": "finnish",
    "fr": "french", "ga": "irish", "hu": "hungarian", "id": "indonesian", "it": "italian",
    "lt": "lithuanian", "nb": "norwegian", "nl": "dutch", "nn": "norwegian", "no": "norwegian",
    "pl": "polish", "pt": "portuguese", "ro": "romanian", "sv": "swedish", "tr": "turkish",
}  # fmt: skip
_OTHERS = {
    "CYRILLIC": {"ru": "russian"},
    "GREEK": {"el": "greek"},
    "ARMENIAN": {"hy": "armenian"},
    "ARABIC": {"ar": "arabic", "fa": "persian"},
    "DEVANAGARI": {"hi": "hindi", "ne": "nepali"},
    "TAMIL": {"ta": "tamil"},
    "HEBREW": {"yi": "yiddish"},
}
# What a script's words are taken for in a text whose own language is written in another script.
_USUAL = {"CYRILLIC": "ru", "GREEK": "el", "ARMENIAN": "hy", "ARABIC": "ar", "TAMIL": "ta"}
_PAIRS = "\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7a3\U00020000-\U0003ffff"  # noqa: E501
_TRIPLES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"
_DROPPED = re.compile("[\u0640\u064b-\u065f\u0670\u00ad\u200b-\u200d\u2060\ufeff]")


def analyze(text: str, language: str = "") -> list[str]:
    """The index terms of a text in ``language`` (ISO 639-1; empty or unknown is allowed)."""
    return [term for word, script in words(text) for term in terms(word, script, language)]


def analyze_query(text: str, languages: Sequence[str]) -> list[tuple[str, ...]]:
    """For each word of a query in turn, the distinct terms it may stand as in those languages."""
    positions: list[tuple[str, ...]] = []
    for word, script in words(text):
        by_language = (terms(word, script, language) for language in languages or ("",))
        positions += [tuple(dict.fromkeys(same)) for same in zip(*by_language, strict=True)]
    return positions


def terms(word: str, script: str, language: str) -> list[str]:
    """The stem of a word, or the n-grams of a run without spaces (``words``)."""
    if script == "PAIRS":
        return _grams(word, (1, 2))
    if script == "TRIPLES":
        return _grams(word, (3,))
    return [_stem(word, script, language)]


def fragments(word: str, script: str) -> list[str]:
    """Character 4-grams of a word of four letters or more, its ends marked by spaces. Numbers
    and the scripts that give n-grams anyhow have none."""
    if len(word) < 4 or script in ("", "PAIRS", "TRIPLES"):
        return []
    return _grams(f" {word} ", (4,))


def words(text: str) -> Iterator[tuple[str, str]]:
    """Words, and runs of scripts without spaces, with their scripts."""
    for run in runs(text):
        yield from split_run(run)


def runs(text: str) -> list[str]:
    """The normalised text cut where no word can go on; ``split_run`` makes words of a run."""
    if text.isascii():
        return _ASCII_RUN.findall(text.lower())
    found: list[str] = _run_pattern().findall(normalize(text))
    return found


@lru_cache(maxsize=1 << 16)
def split_run(run: str) -> tuple[tuple[str, str], ...]:
    """The words of a run, with their scripts."""
    found = _ASCII_WORD.findall(run) if run.isascii() else _word_pattern().findall(run)
    return tuple((word, _script(word)) for word in found)


def normalize(text: str) -> str:
    """One spelling for what readers take as the same: NFKC, case folded, ё as е."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _DROPPED.sub("", folded.replace("ё", "е"))


_ASCII_RUN, _ASCII_WORD = re.compile(r"\w+", re.ASCII), re.compile(r"[a-z0-9]+")


@lru_cache(maxsize=1)
def _run_pattern() -> re.Pattern[str]:
    """All characters that words are made of. One class to look at a character once: the borders
    between kinds of words are looked for in the few runs that may have them."""
    return re.compile(f"[\\w{''.join(_mark_ranges())}{_PAIRS}{_TRIPLES}]+")


@lru_cache(maxsize=1)
def _word_pattern() -> re.Pattern[str]:
    """Runs of pair characters, runs of triple characters, or words: letters, digits, marks."""
    marks = "".join(_mark_ranges())
    return re.compile(f"[{_PAIRS}]+|[{_TRIPLES}]+|(?:(?![{_PAIRS}{_TRIPLES}_])[\\w{marks}])+")


def _mark_ranges() -> Iterable[str]:
    start = None
    for point in range(0x300, 0x20000):
        mark = unicodedata.category(chr(point))[0] == "M"
        if mark and start is None:
            start = point
        elif not mark and start is not None:
            yield f"{chr(start)}-{chr(point - 1)}"
            start = None


_PAIRS_ONLY, _TRIPLES_ONLY = re.compile(f"[{_PAIRS}]"), re.compile(f"[{_TRIPLES}]")


@lru_cache(maxsize=1 << 16)
def _script(word: str) -> str:
    """``PAIRS``, ``TRIPLES``, or the script of the first letter by its Unicode name."""
    if word.isascii():
        return "" if word.isdigit() else "LATIN"
    if _PAIRS_ONLY.match(word):
        return "PAIRS"
    if _TRIPLES_ONLY.match(word):
        return "TRIPLES"
    letter = next((c for c in word if c.isalpha()), "")
    return unicodedata.name(letter, "").split(" ")[0] if letter else ""


def _grams(run: str, sizes: tuple[int, ...]) -> list[str]:
    """Overlapping n-grams of each size; a run shorter than a size gives itself, once."""
    grams = []
    for size in sizes:
        if len(run) >= size:
            grams += [run[i : i + size] for i in range(len(run) - size + 1)]
        elif len(sizes) == 1:
            grams.append(run)
    return grams


def _algorithm(script: str, language: str) -> str | None:
    """The Snowball algorithm for a word of ``script`` in a text of ``language``."""
    if script == "LATIN":
        # A text of another script (or unknown) that quotes Latin words mostly quotes English;
        # a Latin language that Snowball does not know keeps its words as they are.
        known = _LATIN.get(language)
        return known or ("english" if not language or language in _NOT_LATIN else None)
    algorithms = _OTHERS.get(script, {})
    if language in algorithms:
        return algorithms[language]
    if language in _SAME_SCRIPT.get(script, ()):  # Ukrainian is not Russian
        return None
    return algorithms.get(_USUAL.get(script, ""))


_SAME_SCRIPT = {
    "CYRILLIC": frozenset({"uk", "be", "bg", "mk", "sr", "kk", "ky", "mn", "tg", "tt"}),
    "ARABIC": frozenset({"ur", "ps", "ug", "sd", "ku"}),
}
_NOT_LATIN = frozenset(
    {code for codes in _OTHERS.values() for code in codes}
    | {code for codes in _SAME_SCRIPT.values() for code in codes}
    | {"zh", "ja", "ko", "th", "lo", "km", "my", "he", "ka", "am", "bn", "gu", "kn", "ml"}
    | {"mr", "or", "pa", "si", "te", "dz", "as"}
)


@lru_cache(maxsize=64)
def _stemmer(algorithm: str) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(algorithm)


@lru_cache(maxsize=1 << 18)
def _stem(word: str, script: str, language: str) -> str:
    algorithm = _algorithm(script, language) if script else None
    if algorithm is None:
        return word
    stem: str = _stemmer(algorithm).stemWord(word)
    return sys.intern(stem)
