"""Follow the names in what was found: search for questions whose answer needs several passages.

"Who is the father of Edward Baring's father?" names one passage; the other is named only in it.
A search is asked once with the question; then, round by round, each name e that stands in one of
the best passages p and not in the question is looked up, and a passage d that holds it is
reached by the path p, e, d. With question stems Q, weighted by their rarity w among what the
question itself found,

    score(d) = direct(d) + named(d)
               + max over paths  a(p) * rare(e) * (1 + near(p, e)) * (1 + new(p, d) + is(d, e))

    direct     (K + 1) / (K + rank of d in the first search), 0 where it is not there
    named      1 if the question holds d's title
    a          p's score in the round before, over the best of that round
    rare       1 - log(n) / log(fanout + 1), n the passages that hold e; common names are no path
    near       share of w(Q) in the sentence of p that names e: is it said of what is asked
    new        share of w(Q without the stems of p and of the passages before it) that d holds
    is         1 if e is d's title

All parts lie in [0, 1] and weigh 1: nothing is learned. The iteration is that of Qi, Lin, Mehr,
Wang and Manning, "Answering Complex Open-domain Questions Through Iterative Query Generation",
2019 (GoldEn, arXiv 1910.07000) and of Xiong et al., "Answering Complex Open-Domain Questions with
Multi-Hop Dense Retrieval", 2021 (MDR, arXiv 2009.12756), who learn the second query; here it is
a name, as on the links of a graph, and no model is asked.

What it does not know: relations that no shared name carries ("the first operation of the
battle"), and names that only differ in spelling.

Cost: a look-up for each name of ``beam`` passages a round, some 250; with an ``EntityGraph`` as
``mentions`` that is tens of milliseconds, with a lexical search several times as much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from llmwright.core import Chunk, ConfigurationError, Hit, Search
from llmwright.retrieval.graph.names import Reading, read
from llmwright.retrieval.lexical.analysis import analyze

K = 10  # as in the fusion of rankings
DEPTH = 200  # hits of the first search that keep a score of their own

Title = Callable[[Chunk], str]

_NONE: frozenset[str] = frozenset()


def title_of(chunk: Chunk) -> str:
    """The title that a chunk carries: its metadata's, else the first heading it stands under."""
    return chunk.metadata.get("title", "") or chunk.heading.partition(" > ")[0]


def iterated(
    search: Search,
    mentions: Search | None = None,
    *,
    rounds: int = 2,
    beam: int = 10,
    fanout: int = 100,
    title: Title = title_of,
) -> Search:
    """A search that goes on from what ``search`` finds, over the names in it.

    ``mentions`` finds the passages that hold a name (``EntityGraph.mentions``); without it
    ``search`` itself is asked, which should then be a lexical one. ``rounds`` is how many hops
    a path may have, ``beam`` how many passages each round starts from; a name that more than
    ``fanout`` passages hold leads nowhere. ``title`` gives a chunk's title. The hits' scores are
    those above, and the rank "iterated" is added to their own.

    Raises ``ConfigurationError`` for a number below 1 (``fanout``: below 2).
    """
    for name, value, least in (("rounds", rounds, 1), ("beam", beam, 1), ("fanout", fanout, 2)):
        if value < least:
            raise ConfigurationError(
                f"{name} is {value}", where="iterated search", fix=f"give {least} or more"
            )
    look_up = mentions or search

    def found(query: str, top: int) -> list[Hit]:
        walk = _Walk(query, search(query, max(top, DEPTH)), look_up, fanout, title)
        for _ in range(rounds):
            walk.go_on(beam)
        return walk.hits(top)

    return found


@dataclass(slots=True)
class _Place:
    """A passage that was reached: its score, and the stems that the way to it has covered."""

    hit: Hit
    reading: Reading
    direct: float
    score: float
    covered: frozenset[str] = field(default_factory=frozenset)


class _Walk:
    """One question's way through the passages."""

    def __init__(
        self, query: str, first: Sequence[Hit], look_up: Search, fanout: int, title: Title
    ) -> None:
        self._query = query
        self._look_up = look_up
        self._fanout = fanout
        self._title = title
        self._phrases: dict[str, str] = {}  # the question's stems in order, by language
        self._found: dict[tuple[str, str], list[_Place]] = {}
        self._places: dict[str, _Place] = {}
        for rank, hit in enumerate(first, start=1):
            self._place(hit, (K + 1) / (K + rank))
        self._weights = self._rarities()

    def go_on(self, beam: int) -> None:
        """One hop from the ``beam`` best passages; every passage's score is taken anew."""
        order = sorted(self._places.values(), key=_order)[:beam]
        best: dict[str, tuple[float, _Place]] = {}
        for place in order:
            share = place.score / order[0].score
            for value, other in self._steps(place):
                identity = other.hit.chunk.id
                if share * value > best.get(identity, (0.0, place))[0]:
                    best[identity] = (share * value, place)
        covered = {identity: self._covered(origin) for identity, (_, origin) in best.items()}
        for identity, place in self._places.items():
            value = best[identity][0] if identity in best else 0.0
            place.score = place.direct + value
            place.covered = covered.get(identity, frozenset()) if value > place.direct else _NONE

    def hits(self, top: int) -> list[Hit]:
        reached = (place for place in self._places.values() if place.score > 0)
        order = sorted(reached, key=_order)[:top]
        return [
            Hit(place.hit.chunk, place.score, {**place.hit.ranks, "iterated": rank})
            for rank, place in enumerate(order, start=1)
        ]

    def _steps(self, place: _Place) -> list[tuple[float, _Place]]:
        """Passages one name away, with what a step there is worth."""
        language = place.hit.chunk.language
        question = self._phrase(language)
        weights = self._weights
        total = sum(weights.values()) or 1.0
        covered = self._covered(place)
        open_stems = {t: w for t, w in weights.items() if t not in covered}
        open_total = sum(open_stems.values()) or 1.0
        near: dict[str, float] = {}
        spelled: dict[str, str] = {}
        for sentence in place.reading.sentences:
            said = sum(w for t, w in weights.items() if t in sentence.stems) / total
            for key, spelling in sentence.names.items():
                near[key] = max(near.get(key, 0.0), said)
                spelled.setdefault(key, spelling)
        steps = []
        for key, said in near.items():
            if f" {key} " in question:
                continue
            holders = self._holders(key, spelled[key], language)
            if not 2 <= len(holders) <= self._fanout:
                continue
            rare = 1 - math.log(len(holders)) / math.log(self._fanout + 1)
            for other in holders:
                if other is not place:
                    new = sum(w for t, w in open_stems.items() if t in other.reading.stems)
                    end = new / open_total + (other.reading.title == key)
                    steps.append((rare * (1 + said) * (1 + end), other))
        return steps

    def _holders(self, key: str, spelling: str, language: str) -> list[_Place]:
        """The passages that hold a name; one more than the fan-out where it is common."""
        if (key, language) not in self._found:
            hits = self._look_up(spelling, self._fanout + 1)
            places = (self._place(hit, 0.0) for hit in hits)
            self._found[key, language] = [p for p in places if f" {key} " in p.reading.phrase]
        return self._found[key, language]

    def _place(self, hit: Hit, direct: float) -> _Place:
        """The one place of a passage, made when it is first met."""
        chunk = hit.chunk
        if chunk.id not in self._places:
            reading = read(chunk.text, self._title(chunk), chunk.language)
            named = bool(reading.title) and f" {reading.title} " in self._phrase(chunk.language)
            self._places[chunk.id] = _Place(hit, reading, direct + named, direct + named)
        return self._places[chunk.id]

    def _phrase(self, language: str) -> str:
        if language not in self._phrases:
            self._phrases[language] = f" {' '.join(analyze(self._query, language))} "
        return self._phrases[language]

    def _rarities(self) -> Mapping[str, float]:
        """The question's stems with their BM25 weight among the passages it found."""
        readings = [place.reading for place in self._places.values()]
        stems = {stem for phrase in self._phrases.values() for stem in phrase.split()}
        weights = {}
        for stem in stems:
            holders = sum(stem in reading.stems for reading in readings)
            weights[stem] = math.log(1 + (len(readings) - holders + 0.5) / (holders + 0.5))
        return weights

    def _covered(self, place: _Place) -> frozenset[str]:
        return place.covered | place.reading.stems


def _order(place: _Place) -> tuple[float, str]:
    return -place.score, place.hit.chunk.id
