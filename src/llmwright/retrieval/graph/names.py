"""The names in a passage, found by their form alone, and what else linking passages needs.

A name is a run of one to four words whose first and last are capitalised, numbers, or of mixed
form ("BM25", "iPhone"), with short words of small letters allowed between ("University of
Wales"); every such run counts, so that "Mark Bowden" meets "Mark Robert Bowden" in "Bowden". A
capitalised word that merely begins a sentence counts only if nothing says that it is a common
word: no function word, not written small in the same passage. The title is a name as a whole. In
scripts that know no capitals every longer word counts. Names are kept as stems, so that a case
ending makes no other name ("Москва", "Москве").

This is no recogniser of entities: it finds too much ("The First") on purpose, since what joins
many passages weighs little in the graph, and what joins two is what multi-hop search needs.

Cost: about 0.3 ms a passage of 100 words, remembered for the passages of late.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from llmwright.retrieval.chunking.sentences import split_sentences
from llmwright.retrieval.lexical.analysis import analyze, words

_LONGEST = 4  # words of a name
_INNER = 3  # letters of a small word inside a name
_TOKEN = re.compile(r"[^\W_]+")
_LAST_BRACKET = re.compile(r"\s*\([^()]*\)\s*$")
_CASED = frozenset({"", "LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "GEORGIAN"})
# What begins sentences without being a name, in the languages written with capitals most used.
_COMMON = frozenset(
    """a an the this that these those it its he she his her they their we our you your i in on at
    of to for from by with as and or but if when while where who whom whose what which why how is
    are was were be been do does did has have had not no there here then than after before during
    since until also however both each all some many most other such
    и в во на с со о об от до для по из за у к ко не но а или что как это этот эта эти он она оно
    они его её их мы вы я где когда кто какой какая какие чей если после также однако все
    der die das ein eine und oder im von zu mit auf für ist sind war er sie es wer wo
    le la les un une des et ou en dans du de au aux est il elle ils qui que quel quelle où
    el los las una unos y o del al son fue quién qué cuál dónde""".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """Stems of a sentence, and the keys of its names with the spelling first seen."""

    stems: frozenset[str]
    names: dict[str, str]


@dataclass(frozen=True, slots=True)
class Reading:
    """A passage as linking sees it. ``phrase`` is all its stems in order, set off by spaces, so
    that ``f" {key} " in phrase`` says whether a name stands in it."""

    title: str
    phrase: str
    stems: frozenset[str]
    sentences: tuple[Sentence, ...]

    @property
    def names(self) -> dict[str, str]:
        """Keys of all names, the title's included, with a spelling."""
        found: dict[str, str] = {}
        for sentence in self.sentences:
            for key, spelling in sentence.names.items():
                found.setdefault(key, spelling)
        return found


def name_key(text: str, language: str = "") -> str:
    """What a name is kept as: its stems, a bracket at its end ("Alien (film)") left out."""
    bare = _LAST_BRACKET.sub("", text)
    return " ".join(analyze(bare, language) or analyze(text, language))


@lru_cache(maxsize=1 << 14)
def read(text: str, title: str = "", language: str = "") -> Reading:
    """Read a passage of ``language`` (ISO 639-1; may be empty). The title, if there is one, is
    its first sentence."""
    small = frozenset(token for token in _TOKEN.findall(text) if token.islower())
    sentences = []
    if title:
        key, bare = name_key(title, language), _LAST_BRACKET.sub("", title)
        own = _names(bare, language, frozenset())
        sentences.append(
            Sentence(frozenset(analyze(title, language)), {**own, key: bare} if key else own)
        )
    for begin, end in split_sentences(text):
        part = text[begin:end]
        stems = analyze(part, language)
        if stems:
            sentences.append(Sentence(frozenset(stems), _names(part, language, small)))
    return Reading(
        name_key(title, language) if title else "",
        f" {' '.join(analyze(f'{title} {text}', language))} ",
        frozenset().union(*(sentence.stems for sentence in sentences)),
        tuple(sentences),
    )


def _names(sentence: str, language: str, small: frozenset[str]) -> dict[str, str]:
    """Names of one sentence, key to spelling; ``small`` holds words that are written small."""
    tokens = _TOKEN.findall(sentence)
    edge = [_is_edge(token) for token in tokens]
    if tokens and tokens[0].lower() in small:
        edge[0] = False
    stems = [" ".join(analyze(token, language)) for token in tokens]
    found: dict[str, str] = {}
    for begin, token in enumerate(tokens):
        if not edge[begin]:
            continue
        for end in range(begin, min(begin + _LONGEST, len(tokens))):
            if end > begin and not edge[end - 1] and len(tokens[end - 1]) > _INNER:
                break
            if edge[end] and (end > begin or len(token) > 2):
                key = " ".join(filter(None, stems[begin : end + 1]))
                found.setdefault(key, " ".join(tokens[begin : end + 1]))
    if not sentence.isascii():
        for word, script in words(sentence):
            if script not in _CASED and (len(word) >= 4 or (script == "PAIRS" and len(word) > 1)):
                found.setdefault(" ".join(analyze(word, language)), word)
    found.pop("", None)
    return found


@lru_cache(maxsize=1 << 16)
def _is_edge(token: str) -> bool:
    """Whether a name may begin or end with the word."""
    if token.isdigit():
        return len(token) > 2
    if token.lower() in _COMMON:
        return False
    return any(c.isupper() for c in token) or any(c.isdigit() for c in token)
