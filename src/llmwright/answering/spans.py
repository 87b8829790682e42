"""Where exactly a citation points: the sentence of the source that bears the statement out.

A citation ``[n]`` names a passage, which may be long. Of its sentences the one is taken that holds
the largest weighted share of the statement's content words (`support`, over the sentences of the
passage), the first of equals. A passage of which no sentence shares a word is pointed to as a
whole. The measure is lexical: it finds the place to look at, it does not prove the statement.

Costs microseconds a sentence of the sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmwright.answering.citing import cited_sentences
from llmwright.answering.passages import cut
from llmwright.answering.support import Support
from llmwright.core import Hit
from llmwright.retrieval.chunking.sentences import split_sentences


@dataclass(frozen=True, slots=True)
class CitedSpan:
    """``answer[said[0]:said[1]]`` rests on ``document.text[start:end]`` of the ``number``-th
    source; ``share`` of the statement's weighted words stand there."""

    said: tuple[int, int]
    number: int
    document_id: str
    start: int
    end: int
    share: float


def cited_spans(answer: str, sources: Sequence[Hit]) -> list[CitedSpan]:
    """One span for each citation in the answer, in its order."""
    return [
        _span(answer[start:end], (start, end), number, sources[number - 1])
        for start, end, numbers in cited_sentences(answer, len(sources))
        for number in numbers
    ]


def _span(statement: str, said: tuple[int, int], number: int, source: Hit) -> CitedSpan:
    chunk = source.chunk
    places = []
    for start, end in split_sentences(chunk.text):
        text = chunk.text[start:end]
        first = chunk.start + start + len(text) - len(text.lstrip())
        places.append((first, first + len(text.strip())))
    statement = statement.replace(f"[{number}]", "")
    shares = Support([cut(source, *place) for place in places]).shares(
        statement, strict_numbers=False
    )
    best = max(shares, default=0.0)
    start, end = places[shares.index(best)] if best > 0 else (chunk.start, chunk.end)
    return CitedSpan(said, number, chunk.document_id, start, end, best)
