"""Which language a text is written in: the script decides first, then byte n-grams.

Many scripts carry one language and need no model. Where a script carries several (Latin,
Cyrillic, Arabic, ...) the naive Bayes model of py3langid ranks those written in it, and its
posterior p is weighted by how common a language is:

    language = argmax over candidates l of  p(l | bytes of the text) * sqrt(share(l))

so that a text long enough is decided by its bytes, and "GPU" or "Привет", which fit dozens of
languages about equally well, by the share. The root softens the prior: with the plain share
Bulgarian questions would turn Russian.

langid.py: Lui and Baldwin (2012), "langid.py: An Off-the-shelf Language Identification Tool",
ACL demonstrations, https://aclanthology.org/P12-3005; py3langid is its kept-up fork.
Costs 0.5 s to load the model, once, then well under a millisecond a text: only the first
2,000 characters are looked at.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Collection
from functools import lru_cache
from typing import Any

SAMPLE = 2000

# Languages by script; a script that is not here is Latin or carries none that we know.
_WRITTEN_IN: dict[str, tuple[str, ...]] = {
    "CYRILLIC": ("ru", "uk", "bg", "sr", "be", "mk", "kk", "ky", "mn", "tg", "tt", "ba"),
    "ARABIC": ("ar", "fa", "ur", "ps", "ug", "ku", "sd"),
    "DEVANAGARI": ("hi", "mr", "ne", "sa"),
    "BENGALI": ("bn", "as"),
    "CJK": ("zh", "ja"),
    "KANA": ("ja",),
    "HANGUL": ("ko",),
    "GREEK": ("el",),
    "HEBREW": ("he", "yi"),
    "THAI": ("th",),
    "LAO": ("lo",),
    "KHMER": ("km",),
    "MYANMAR": ("my",),
    "TIBETAN": ("bo", "dz"),
    "GEORGIAN": ("ka",),
    "ARMENIAN": ("hy",),
    "ETHIOPIC": ("am", "ti"),
    "GUJARATI": ("gu",),
    "GURMUKHI": ("pa",),
    "ORIYA": ("or",),
    "TAMIL": ("ta",),
    "TELUGU": ("te",),
    "KANNADA": ("kn",),
    "MALAYALAM": ("ml",),
    "SINHALA": ("si",),
}

# Serbian and Kurdish are written in Latin letters as well.
_NOT_LATIN = frozenset(c for codes in _WRITTEN_IN.values() for c in codes) - {"sr", "ku"}

# Share of web pages in per cent, rounded, after Common Crawl's own statistics
# (https://commoncrawl.github.io/cc-crawl-statistics/plots/languages); rare ones count _RARE.
_SHARE = {
    "en": 43, "ru": 6, "de": 5.5, "ja": 5.5, "zh": 5, "es": 4.5, "fr": 4.5, "it": 2.5, "pt": 2.3,
    "nl": 1.8, "pl": 1.8, "id": 1.1, "tr": 1.1, "cs": 1.1, "vi": 1.0, "sv": 0.7, "fa": 0.7,
    "ko": 0.7, "ar": 0.7, "ro": 0.6, "el": 0.6, "hu": 0.6, "uk": 0.6, "da": 0.5, "fi": 0.4,
    "th": 0.4, "no": 0.4, "sk": 0.4, "bg": 0.3, "he": 0.25, "ca": 0.2, "hr": 0.2, "sr": 0.2,
    "hi": 0.2, "lt": 0.15, "sl": 0.15, "et": 0.13, "lv": 0.1, "bn": 0.1,
}  # fmt: skip
_RARE = 0.02

# Latin letters stand in texts of every script (names, terms, code), so another script rules a
# text as soon as it has this part of the Latin letters.
_LATIN_WEIGHT = 1 / 3


@lru_cache(maxsize=1 << 14)
def _script(character: str) -> str:
    """First word of the character's Unicode name, which names its script; "" for non-letters."""
    if not character.isalpha():
        return ""
    script = unicodedata.name(character, "").partition(" ")[0]
    return "KANA" if script in ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA") else script


def scripts(text: str) -> dict[str, int]:
    """How many letters of each script a text holds, the most frequent first.

    Names are Unicode's (``LATIN``, ``CYRILLIC``, ``HANGUL``); Han characters are ``CJK``,
    Hiragana and Katakana together ``KANA``.

    >>> scripts("Что такое LoRA?")
    {'CYRILLIC': 8, 'LATIN': 4}
    """
    counts: Counter[str] = Counter()
    for character, count in Counter(unicodedata.normalize("NFKC", text)).items():
        if script := _script(character):
            counts[script] += count
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _ruling_script(counts: dict[str, int]) -> str:
    weights = {s: n * (_LATIN_WEIGHT if s == "LATIN" else 1) for s, n in counts.items()}
    # Japanese mixes Han with Kana, Chinese never does: any real part of Kana decides.
    if weights.get("KANA", 0) * 10 >= weights.get("CJK", 0) > 0:
        weights["KANA"] = weights.get("KANA", 0) + weights.pop("CJK")
    return max(weights, key=lambda script: (weights[script], script), default="")


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _most_likely(text: str, script: str, candidates: Collection[str] | None) -> str:
    """The best of ``candidates`` (``None``: all that are written in Latin letters)."""
    # Letters of other scripts are quoted words: they say nothing about the language around them.
    own = "".join(c if _script(c) in (script, "") else " " for c in text)
    posterior: dict[str, float] = dict(_identifier().rank(own))
    if candidates is None:
        candidates = _latin_languages()
    return max(
        sorted(candidates),
        key=lambda code: posterior.get(code, 0.0) * math.sqrt(_SHARE.get(code, _RARE)),
    )


@lru_cache(maxsize=1)
def _latin_languages() -> frozenset[str]:
    return frozenset(c for c in _identifier().labels if len(c) == 2) - _NOT_LATIN


def detect_language(text: str, among: Collection[str] | None = None) -> str:
    """The ISO 639-1 code of a text's language, or "" when there is nothing to tell it by.

    ``among`` restricts the answer, for instance to the languages an index holds: then even one
    word gets a sensible answer. "" is returned for text without letters, and where no candidate
    is written in the script of the text. Latin letters are the exception, being at home in every
    language: with ``among={"ru"}`` the query "LoRA" is Russian.

    >>> detect_language("GPU", among={"en", "ru"})
    'en'
    """
    sample = unicodedata.normalize("NFKC", text[:SAMPLE])
    script = _ruling_script(scripts(sample))
    candidates: Collection[str] | None = _WRITTEN_IN.get(script)
    if script != "LATIN" and candidates is None:
        return ""
    allowed = {code for code in among or () if code}
    if allowed and candidates is None:
        candidates = allowed - _NOT_LATIN or allowed
    elif allowed and candidates is not None:
        candidates = allowed.intersection(candidates)
    if candidates is not None and len(candidates) < 2:
        return next(iter(candidates), "")
    if script == "CJK" and candidates is not None:  # Han without Kana
        return "zh" if "zh" in candidates else "ja"
    return _most_likely(sample, script, candidates)
