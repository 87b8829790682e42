"""Compression by choosing sentences: those nearest to the question, until the budget is full.

Sentences of all passages compete. With an embedder the score is the cosine of sentence and
question; without one, the weighted share of the question's words that the sentence holds:

    score(s, q) = sum of idf(w) for w in q and s  /  sum of idf(w) for w in q

with idf over the sentences at hand, as in `support`. Equals stand in the order of the passages, so
what says nothing about the question's words is kept from the best passages first. Kept sentences
stay in their order, and their offsets are the document's. The extractive half of RECOMP (Xu, Shi
and Choi, 2023, arXiv 2310.04408) without its trained compressor.

Costs microseconds a sentence by words; an embedding of every sentence with an embedder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmwright.answering.context import Count, measure
from llmwright.answering.passages import Passage, Span
from llmwright.answering.support import Support
from llmwright.core import Chunk, Embedder, Hit
from llmwright.retrieval.chunking.sentences import split_sentences


@dataclass(frozen=True, slots=True)
class SentenceExtraction:
    """A ``Compressor`` by sentences; ``embedder`` scores by meaning instead of words."""

    embedder: Embedder | None = None

    def __call__(
        self, question: str, passages: Sequence[Passage], budget: int, count: Count
    ) -> list[Passage]:
        """What is kept measures at most ``budget``; a passage without a kept sentence is gone."""
        places = [(number, span) for number, p in enumerate(passages) for span in _sentences(p)]
        texts = [
            passages[n].hit.chunk.text[start - at : end - at]
            for n, (start, end) in places
            for at in (passages[n].hit.chunk.start,)
        ]
        scores = self._scores(question, texts, [passages[n].hit.chunk.language for n, _ in places])
        kept: list[list[Span]] = [[] for _ in passages]
        room = budget
        for i in sorted(range(len(places)), key=lambda i: (-scores[i], i)):
            number, span = places[i]
            before = _size(passages[number], kept[number], count)
            more = sorted([*kept[number], span])
            size = _size(passages[number], more, count) - before
            if size <= room:
                kept[number] = more
                room -= size
        return [p.keep(spans) for p, spans in zip(passages, kept, strict=True) if spans]

    def _scores(
        self, question: str, sentences: Sequence[str], languages: Sequence[str]
    ) -> list[float]:
        if not sentences:
            return []
        if self.embedder is not None:
            asked = self.embedder.embed([question], kind="query")[0]  # [dimension]
            vectors = self.embedder.embed(list(sentences))  # [sentences, dimension]
            return [float(score) for score in vectors @ asked]
        hits = [
            Hit(Chunk("", "", text, 0, len(text), language=language), 0.0)
            for text, language in zip(sentences, languages, strict=True)
        ]
        return Support(hits).shares(question, strict_numbers=False)


def _sentences(passage: Passage) -> list[Span]:
    """The sentences of what is shown, without the white space around them."""
    chunk = passage.hit.chunk
    found = []
    for start, end in passage.pieces:
        inside = (start - chunk.start, end - chunk.start)
        for begin, stop in split_sentences(chunk.text, inside):
            text = chunk.text[begin:stop]
            left = len(text) - len(text.lstrip())
            if text.strip():
                first = chunk.start + begin + left
                found.append((first, first + len(text.strip())))
    return found


def _size(passage: Passage, spans: Sequence[Span], count: Count) -> int:
    return measure([passage.keep(spans)], count) if spans else 0
