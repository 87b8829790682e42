"""How much of an answer is borne out by its sources, counted without a judge model.

For each sentence s of the answer, W is its set of stemmed content words (stop words left out)
and F its set of numbers and names. With p the words of a source passage,

    support(s, p) = min( |(W + F) in p| / |W + F| ,  |F in p| / |F| )          (an empty F gives 1)

The second term is there because a wrong figure in an otherwise copied sentence is the commonest
hallucination: one of two numbers missing caps the support at 1/2. A sentence with citations is
held against the cited passages together; one without against each source alone, the best one
counting. A citation of a passage that does not exist supports nothing.

    groundedness      = mean support over the sentences that hold a content word
    citation coverage = share of those sentences whose cited passages support them by 1/2 or more

Both lie in [0, 1], and are None (unscored) where no sentence holds a content word or there is no
source. It is the lexical precision of Adlakha et al. (2023, "Knowledge-F1", arXiv 2307.16877)
taken by sentence, with numbers and names made strict. Cost: linear in answer and sources.

Its limits: it reads words, not meaning. A negation ("does not", "не") or a swapped subject and
object passes; a right paraphrase in other words, a sum worked out from the sources and a
translation fail. Use it to compare two builds on one question set, and look at low answers; for
single verdicts a judge or an entailment model is the tool.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from llmwright.evaluation.stemming import STOP_WORDS, stem

SUPPORTED = 0.5
"""From this support on, a cited sentence counts as covered."""

_CITATION = re.compile(r"\[(\d{1,3}(?:, ?\d{1,3}){0,20})\]")
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # written without spaces: one by one
_TOKEN = re.compile(rf"\d+(?:[.,:]\d+)*|[{_CJK}]|[^\W\d_{_CJK}]+(?:['’][^\W\d_]+)?")
# A sentence ends at . ! ? … and their like, with closing quotes and citations behind them, where
# white space and something other than a small letter follow; and at every line break.
_END = re.compile(
    r"(?:(?<=[.!?…])[\"'»”’)\]]{0,3}(?:\s?\[\d{1,3}(?:, ?\d{1,3}){0,20}\]){0,8}"
    r"(?=\s+[^a-zа-яё\s\[]|\s*$)|[。！？](?:\s?\[\d{1,3}\]){0,8})"
)
_ABBREVIATION = re.compile(
    r"(?:^\s*\d{1,3}|\b(?:e\.g|i\.e|etc|cf|vs|fig|eq|dr|mr|mrs|ms|prof|al|vol|sec|т\.\s?е|т\.\s?д"
    r"|т\.\s?п|рис|ул|стр|гл)|\b[a-zа-яё])\.$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Groundedness:
    """``groundedness`` and ``citation_coverage`` in [0, 1] or None, and per sentence of the
    answer its support (None where there was nothing to check)."""

    groundedness: float | None
    citation_coverage: float | None
    sentences: tuple[tuple[str, float | None], ...] = ()


def groundedness(answer: str, sources: Sequence[str]) -> Groundedness:
    """Hold ``answer`` against the passages that ``[1]``, ``[2]``, ... in it refer to."""
    passages = [words_of(source) for source in sources]
    supports: list[tuple[str, float | None]] = []
    covered = 0
    for sentence in split_sentences(answer):
        cited = [
            int(number) for group in _CITATION.findall(sentence) for number in group.split(",")
        ]
        content, facts = claims(_CITATION.sub("", sentence))
        if not passages or not (content or facts):
            supports.append((sentence, None))
            continue
        if cited:
            together = set().union(*(passages[n - 1] for n in cited if 0 < n <= len(passages)))
            support = borne_out(content, facts, together)
            covered += support >= SUPPORTED
        else:
            support = max(borne_out(content, facts, passage) for passage in passages)
        supports.append((sentence, support))
    checked = [support for _, support in supports if support is not None]
    return Groundedness(
        groundedness=sum(checked) / len(checked) if checked else None,
        citation_coverage=covered / len(checked) if checked else None,
        sentences=tuple(supports),
    )


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, each with the citations behind it; list items and lines too."""
    sentences = []
    for line in text.splitlines():
        start = 0
        for end in _END.finditer(line):
            if _ABBREVIATION.search(line, max(start, end.start() - 12), end.start()):
                continue
            sentences.append(line[start : end.end()])
            start = end.end()
        sentences.append(line[start:])
    return [stripped for sentence in sentences if (stripped := sentence.strip())]


def _tokens(text: str) -> list[str]:
    text = unicodedata.normalize("NFKC", text).replace("ё", "е").replace("Ё", "Е")
    return [re.split("['’]", token)[0] for token in _TOKEN.findall(text)]  # "Meta's" is Meta


def words_of(text: str) -> set[str]:
    """Everything a passage can bear out: its numbers, and the stems of all its words."""
    return {_term(token) for token in _tokens(text)}


def claims(sentence: str) -> tuple[set[str], set[str]]:
    """The content words (stemmed) and the facts (numbers, names) of a sentence."""
    content: set[str] = set()
    facts: set[str] = set()
    # "1." or "2)" before a list item is not a claim.
    for place, token in enumerate(_tokens(re.sub(r"^\s*\d{1,3}[.)]\s", "", sentence))):
        if token.lower() in STOP_WORDS:
            continue
        # A name has capitals inside (LoRA, GPU), or at its head but not the sentence's.
        name = token[1:] != token[1:].lower() or (place > 0 and token[0] != token[0].lower())
        (facts if name or token[0].isdigit() else content).add(_term(token))
    return content, facts


def _term(token: str) -> str:
    """A word's stem (names too: Russian declines them); a number with one spelling of its
    separators: 1,000 as 1000 and 0,5 as 0.5."""
    if not token[0].isdigit():
        return stem(token.lower())
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+", token):
        return token.replace(",", "")
    return token.replace(",", ".")


def borne_out(content: set[str], facts: set[str], passage: Collection[str]) -> float:
    """The support of a passage (``words_of``) for the ``claims`` of a sentence, one at least."""
    both = content | facts
    share = sum(word in passage for word in both) / len(both)
    strict = sum(fact in passage for fact in facts) / len(facts) if facts else 1.0
    return min(share, strict)
