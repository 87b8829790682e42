"""Score a text as an attempt to replace the application's instructions (OWASP LLM01).

The text is folded (``folding``), cut into sentences and words, and each word gets the classes it
belongs to (``lexicon``). A rule fires where all its classes stand within a window of words in
one sentence, in any order and inflection: override + prior + instruction finds "ignore all
previous instructions" as well as "предыдущие инструкции проигнорируй". Besides: forged chat
delimiters, and Base64 or ROT13 that decodes to something which fires.

Talking about an attack is not an attack. Each match has the severity of its rule times 1/2 for
each of: it stands in quotation marks, its sentence opens as a question, its sentence speaks of
attacks or defence, its verb is in the third person. A bare command (the verb at the head of a
clause, outside quotation marks) gets no such discount. The score is the sum over rules of the
largest severity, at most 1; from ``THRESHOLD`` on the text is an attack.

Measured: all 30 attacks and none of 30 harmless texts of ``tests/safety/injection.jsonl``, which
the rules were written with; none of 2,253 questions people asked a chat model (HaluEval) nor of
1,264 of XQuAD. Of 25 other attacks it found 9 at first sight, and of the next 30, with rules
widened by those, 15: expect half of what is new. Patterns catch the common and the careless and
are no security boundary: never let a model do what its user may not.
Related: Perez and Ribeiro (2022) arXiv 2211.09527; Greshake et al. (2023) arXiv 2302.12173.
Cost: linear; each word looks at most ``_WINDOW`` words to either side.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from llmwright.safety.folding import Folded, fold, readings
from llmwright.safety.lexicon import PAIRS, WORDS
from llmwright.safety.verdict import Finding

THRESHOLD = 0.75
_WINDOW = 10
_DEPTH = 2  # encodings inside encodings

_WORD = re.compile(r"[\w@$']{1,60}")
_SENTENCE_END = re.compile(r"[.!?。！？…]{1,9}[\"'»”’)\]]{0,3}(?=\s|$)|\n")
_QUOTED = re.compile(
    r"\"[^\"\n]{1,300}\"|«[^»\n]{1,300}»|“[^”\n]{1,300}”|„[^“\n]{1,300}“|`[^`\n]{1,300}`"
    r"|(?<!\w)'[^'\n]{1,300}'(?!\w)|(?<!\w)‘[^’\n]{1,300}’"
)
_CLAUSE = re.compile(r"[,;:—–\-(]\s{0,9}$")
# Delimiters of chat templates (ChatML, Llama 2 and 3, Gemma, Phi, Alpaca). With a role and text
# behind it a delimiter opens a forged turn; alone it may just be asked about.
_TURN = re.compile(
    r"<\|im_start\|>\s?(?:system|user|assistant)\s"
    r"|<\|start_header_id\|>\s?(?:system|user|assistant)\s?<\|end_header_id\|>"
    r"|<\|(?:system|user|assistant)\|>\s{0,3}\S|<start_of_turn>\s?(?:model|user|system)\s"
    r"|\[inst\][^\[\]]{3,300}\[/inst\]|<<sys>>[^<>]{3,300}<</sys>>"
    r"|#{2,4} ?(?:system|instruction|assistant|система|инструкция) ?:"
)
_DELIMITER = re.compile(
    r"<\|[a-z_]{2,20}\|>|\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|</?s>"
    r"|(?:^|\n)\s{0,8}(?:system|система) ?:"
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")


@dataclass(frozen=True, slots=True)
class _Rule:
    """``needs[0]`` is the verb that decides whether this is a command. ``question`` says whether
    a question may be the attack itself, so that being one is no discount."""

    name: str
    detail: str
    needs: tuple[str, ...]
    severity: float = 1.0
    question: bool = False


_RULES = (
    _Rule("override", "asks to ignore instructions", ("override", "prior", "instruction")),
    _Rule("forget", "asks to forget what was said", ("override", "prior", "told")),
    _Rule("disobey", "asks to stop following instructions", ("disobey", "instruction")),
    _Rule("void", "declares instructions void", ("void", "prior", "instruction")),
    _Rule("reveal", "asks for hidden instructions", ("reveal", "secret", "own"), question=True),
    _Rule("probe", "asks for hidden instructions", ("ask", "secret", "yours"), question=True),
    _Rule(
        "above",
        "asks for the text before the conversation",
        ("reveal", "wording", "position", "here"),
        question=True,
    ),
    _Rule(
        "top",
        "asks for the text before the conversation",
        ("ask", "wording", "position", "here"),
        question=True,
    ),
    _Rule("role", "sets up a role without limits", ("role", "unbound")),
    _Rule("limitless", "sets up a role without limits", ("role", "disable", "filter")),
    _Rule("mode", "turns on a mode without limits", ("enable", "mode")),
    _Rule("disable", "turns off safety", ("disable", "safety"), 0.8),
    _Rule("unfilter", "turns off a filter", ("disable", "filter"), 0.5),
)
_OBEY = _Rule("obey", "asks to carry out embedded text", ("obey",), 0.5)


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    end: int
    classes: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Sentence:
    words: list[_Word]
    places: Mapping[str, list[int]]  # class -> the words that belong to it, ascending
    asks: bool
    explains: bool  # opens with how or why, which no attack does

    @classmethod
    def of(cls, words: list[_Word]) -> _Sentence:
        places: dict[str, list[int]] = {}
        for i, word in enumerate(words):
            for name in word.classes:
                places.setdefault(name, []).append(i)
        opening = words[0].classes if words else frozenset[str]()
        return cls(words, places, "asks" in opening, "explains" in opening)

    def speaks_of_attacks(self, first: int, last: int) -> bool:
        """Whether it does so outside the words from ``first`` to ``last``."""
        meta = self.places.get("meta", [])
        return bool(meta) and (meta[0] < first or meta[-1] > last)


def find_injection(text: str) -> tuple[float, list[Finding]]:
    """The score in [0, 1] and what it is made of, the severest first."""
    return _scan(text, _DEPTH)


def _scan(text: str, depth: int) -> tuple[float, list[Finding]]:
    folded = fold(text)
    best: dict[str, Finding] = {}
    for name, finding in _matches(folded):
        if name not in best or finding.severity > best[name].severity:
            best[name] = finding
    if depth:
        for name, finding in _encoded(text, folded, depth):
            best.setdefault(name, finding)
    if set(best) == {_OBEY.name}:  # nothing to obey
        best = {}
    findings = sorted(best.values(), key=lambda f: (-f.severity, f.start))
    return min(1.0, sum(f.severity for f in findings)), findings


def _matches(folded: Folded) -> Iterator[tuple[str, Finding]]:
    text = folded.text
    quoted = [m.span() for m in _QUOTED.finditer(text)]
    # Quotation marks around the whole message are a disguise, not a quotation.
    quoted = [(a, b) for a, b in quoted if b - a < 0.8 * len(text.strip())]
    delimited = _TURN.search(text) or _DELIMITER.search(text)
    start = 0
    for end in [*(m.end() for m in _SENTENCE_END.finditer(text)), len(text)]:
        sentence = _Sentence.of(_words(text, start, end))
        yield from _in_sentence(folded, sentence, quoted)
        if delimited:
            yield from _delimiters(folded, sentence, quoted, start, end)
        start = end


def _words(text: str, start: int, end: int) -> list[_Word]:
    spans = [m.span() for m in _WORD.finditer(text, start, end)]
    plain = [text[a:b].strip("'_") for a, b in spans]
    return [
        _Word(a, b, _classes(plain[i]) | _pair_classes(plain[i], tuple(plain[i + 1 : i + 4])))
        for i, (a, b) in enumerate(spans)
    ]


def _in_sentence(
    folded: Folded, sentence: _Sentence, quoted: list[tuple[int, int]]
) -> Iterator[tuple[str, Finding]]:
    words, places = sentence.words, sentence.places
    if len(places) < 2:  # one class alone breaks no rule but "obey", which needs company
        return
    for rule in (*_RULES, _OBEY):
        if any(name not in places for name in rule.needs):
            continue
        for i in places[rule.needs[0]]:
            near = [_nearest(places[name], i) for name in rule.needs[1:]]
            first, last = min([i, *near]), max([i, *near])
            if last - first > _WINDOW:
                continue
            span = folded.span(words[first].start, words[last].end)
            severity = rule.severity * _discount(
                folded.text, sentence, rule, i, first, last, quoted
            )
            yield rule.name, Finding("injection", *span, rule.detail, severity)


def _nearest(places: list[int], i: int) -> int:
    at = bisect.bisect_left(places, i)
    return min(places[max(0, at - 1) : at + 1], key=lambda j: abs(j - i))


def _discount(
    text: str,
    sentence: _Sentence,
    rule: _Rule,
    verb: int,
    first: int,
    last: int,
    quoted: list[tuple[int, int]],
) -> float:
    words, start = sentence.words, sentence.words[verb].start
    in_quotes = _inside(start, quoted)
    before = text[words[verb - 1].end : start] if verb else ""
    heads_clause = verb == 0 or bool(_CLAUSE.search(before)) or "lead" in words[verb - 1].classes
    if heads_clause and not in_quotes and not rule.question:
        return 1.0
    meta = sentence.speaks_of_attacks(first, last)
    asks = sentence.explains if rule.question else sentence.asks
    told_of = "told_of" in words[verb].classes
    return 0.5 ** (in_quotes + meta + asks + told_of)


def _inside(place: int, spans: list[tuple[int, int]]) -> bool:
    """Whether one of the sorted, disjoint spans holds the place."""
    at = bisect.bisect_right(spans, place, key=lambda span: span[0]) - 1
    return at >= 0 and place < spans[at][1]


def _delimiters(
    folded: Folded, sentence: _Sentence, quoted: list[tuple[int, int]], start: int, end: int
) -> Iterator[tuple[str, Finding]]:
    text = folded.text
    for match in _TURN.finditer(text, start, min(end + 80, len(text))):
        span = folded.span(*match.span())
        yield "turn", Finding("injection", *span, "forges a turn of the conversation", 1.0)
    meta = "meta" in sentence.places
    for match in _DELIMITER.finditer(text, start, end):
        severity = 0.6 * 0.5 ** (_inside(match.start(), quoted) + meta + sentence.asks)
        span = folded.span(*match.span())
        name = f"delimiter {match.group().strip()}"
        yield name, Finding("injection", *span, "holds a delimiter of chat templates", severity)


def _encoded(text: str, folded: Folded, depth: int) -> Iterator[tuple[str, Finding]]:
    for match in _BASE64.finditer(text):
        decoded = _decode(match.group())
        if decoded:
            score, findings = _scan(decoded, depth - 1)
            if score >= THRESHOLD:
                detail = f"Base64 that {findings[0].detail}"
                yield "base64", Finding("injection", *match.span(), detail, score)
    turned = Folded(codecs.encode(folded.text, "rot13"), folded.origin)
    for _, finding in _matches(turned):
        if finding.severity >= THRESHOLD and text[finding.start : finding.end].isascii():
            detail = f"ROT13 that {finding.detail}"
            yield "rot13", Finding("injection", finding.start, finding.end, detail, 1.0)


def _decode(run: str) -> str:
    body = run.rstrip("=").replace("-", "+").replace("_", "/")
    body = body[: len(body) - (len(body) % 4 == 1)]
    try:
        decoded = base64.b64decode(body + "=" * (-len(body) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    printable = sum(c.isprintable() or c in "\n\t\r" for c in decoded)
    return decoded if decoded and printable >= 0.9 * len(decoded) else ""


def _compile(pattern: str) -> re.Pattern[str]:
    """Words with ``*`` for any ending, as one alternation that must match a whole word."""
    words = (re.escape(word).replace(r"\*", r"\w*") for word in pattern.split())
    return re.compile("(?:" + "|".join(words) + ")")


_COMPILED: Mapping[str, re.Pattern[str]] = {name: _compile(words) for name, words in WORDS.items()}
_COMPILED_PAIRS = tuple(
    (name, _compile(first), _compile(second))
    for name, pairs in PAIRS.items()
    for first, second in pairs
)


@lru_cache(maxsize=65536)
def _classes(word: str) -> frozenset[str]:
    return frozenset(
        name
        for name, pattern in _COMPILED.items()
        if any(pattern.fullmatch(reading) for reading in readings(word))
    )


@lru_cache(maxsize=65536)
def _pair_classes(word: str, following: tuple[str, ...]) -> frozenset[str]:
    return frozenset(
        name
        for name, first, second in _COMPILED_PAIRS
        if any(first.fullmatch(reading) for reading in readings(word))
        and any(second.fullmatch(r) for other in following for r in readings(other))
    )
