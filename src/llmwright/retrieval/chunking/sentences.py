"""Where sentences end, in several scripts, by rules.

A full stop ends a sentence unless it belongs to a word: an abbreviation ("Dr.", "z. B.", "и т.
д."), an initial ("J. S. Bach"), letters between full stops ("U.S."), a number that is counted with
("am 3. Oktober"), or unless the text goes on in lower case. Some abbreviations stand at the end of
sentences too ("etc.", "a.m.", "Inc."): after those a sentence begins only with a word that often
begins one. Marks of other scripts (。 । ؟ ۔ ። ։ and so on) end a sentence without looking around.
An empty line, a list item, a heading and a row of a table begin a new one.

Rules and not a trained model (Punkt: Kiss and Strunk, 2006, "Unsupervised Multilingual Sentence
Boundary Detection"), because rules give the same cut whatever else is in the text, and because
each decision can be read here. Thai and its neighbours write no mark: there lines decide.

Cost: linear in the text; a mark is judged by at most ``_LOOK`` characters on either side.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmwright.retrieval.chunking.spans import Span

_LOOK = 40
_CLOSING = "\"'»”’)\\]」』”’）】》"
_CANDIDATE = re.compile(
    r"(?P<line>\n[^\S\n]*+(?:\n\s*+|(?=[-*+•]\s|\d{1,3}[.)]\s|\#{1,6}\s|\|)))"
    r"|(?P<heading>^\#{1,6}\s[^\n]*+\n)"
    rf"|(?P<wide>[。！？｡]++[{_CLOSING}]*+\s*+)"
    rf"|(?P<other>[।॥؟۔։።፧፨។៕။᠃᠉]++[{_CLOSING}]*+\s*+)"
    rf"|(?P<mark>(?<![.!?…])[.!?…]++)[{_CLOSING}]*+\s++",
    re.MULTILINE,
)
_WORD_BEFORE = re.compile(r"(?<![^\s(\[{\"'«„“‘/—–-])[^\s(\[{\"'«„“‘/—–]*\Z")
_OPENING = re.compile(r"[\"'«„“‘(\[{¿¡*_—–-]*")
_WORD_AFTER = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
_LETTERS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")

# After these a name or a number follows: they end no sentence.
_NEVER = frozenset(
    """mr mrs ms dr prof rev hon st sr fr gen col maj capt lt cmdr sgt gov sen rep pres messrs mt
    fig figs eq eqs chap ch pp p eds refs approx vs cf viz resp incl e.g i.e al jan feb apr jul
    aug sept sep oct nov dec
    hr fr nr abb bd bzw z ca dipl ing evtl ggf inkl vgl d.h z.b u.a s bspw kap tab
    m mm mme mlle me av env c.-à-d p.ex sra srta dña ud uds núm pág tel sig dott avv ecc pag
    г-н г-жа гг ул пр пл просп им св ст стр рис табл гл см ср проф акад доц корп кв тел
    т.е т.к т.н напр млн млрд тыс руб коп н.э вв""".split()  # noqa: SIM905
)
_BEFORE_NUMBERS = frozenset("no nos art vol ed sec ref mar jun".split())  # noqa: SIM905
# These may stand last as well.
_SOMETIMES = frozenset(
    """etc inc ltd co corp jr bros dept univ a.m p.m ph.d b.c a.d u.s u.k u.n d.c usw usf u.s.w
    т.д т.п др пр""".split()  # noqa: SIM905
)
_STARTERS = frozenset(
    """the a an in on at it its he she they we you this that these those there here but and or so
    however when where while if as after before since for from with by of one some many most all
    no not his her their our what who why how der die das ein eine es er sie wir ich im am auf in
    bei nach vor seit und aber doch wenn als man le la les un une il elle ils elles on nous vous ce
    cette el los las lo una en и но а в на он она оно они мы вы это этот эта эти к с по из для при
    после до как так если когда что""".split()  # noqa: SIM905
)
_COUNTED = frozenset(
    """januar februar märz april mai juni juli august september oktober november dezember
    jahrhundert jahrhunderts klasse platz auflage tag januára ledna února""".split()  # noqa: SIM905
)


def split_sentences(text: str, span: Span | None = None) -> Iterator[Span]:
    """The sentences of a text or of a span of it, touching each other, each with the white space
    behind it. Together they cover everything."""
    begin, end = span or (0, len(text))
    for match in _CANDIDATE.finditer(text, begin, end):
        if match.end() < end and (match["mark"] is None or _ends(text, match, begin)):
            yield begin, match.end()
            begin = match.end()
    if begin < end:
        yield begin, end


def _ends(text: str, match: re.Match[str], begin: int) -> bool:
    """Whether a sentence ends at this mark, followed by white space."""
    after = text[match.end() : match.end() + _LOOK]
    after = after[_OPENING.match(after).end() :]  # type: ignore[union-attr]
    if after[:1].islower() or after[:1] in (",", ";", ":"):
        return False
    if match["mark"] != ".":
        return True
    near = text[max(begin, match.start() - _LOOK) : match.start()]
    found = _WORD_BEFORE.search(near)
    before = found[0] if found else near
    word = before.casefold()
    next_word = _WORD_AFTER.match(after)
    follows = next_word[0].casefold() if next_word else ""
    if word.isdecimal():
        listed = not near[: -len(word)].rpartition("\n")[2].strip()
        return not listed and not (len(word) < 3 and follows in _COUNTED)
    if word in _NEVER or (word in _BEFORE_NUMBERS and after[:1].isdecimal()):
        return False
    one_letter = len(before) == 1 and before.isalpha() and (before.isupper() or word != "i")
    if word in _SOMETIMES or one_letter or _LETTERS.fullmatch(word):
        initial = len(follows) == 1 and after[1:2] == "."
        return follows in _STARTERS and not initial
    return True
