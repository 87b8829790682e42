"""Compression by dropping words that a trained token classifier calls dispensable.

LLMLingua-2 (Pan et al. 2024, arXiv 2403.12968): an encoder gives each token the probability of
being preserved; a word has the mean of its tokens'; the words of highest probability are kept, as
many as the budget allows, in their order. Unlike sentences chosen by a question this is blind to
the question, and what is left is no longer grammatical: models read it, people should not.

Any ``embeddings.TokenClassifier`` will do whose label says what to keep (LLMLingua-2's BERT:
label 1). No such weights come with this project. Costs one pass of the encoder over the passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llmwright.answering.context import Count, measure
from llmwright.answering.passages import Passage, Span


class Words(Protocol):
    """Gives each word of a text as start, end and the probability of each label."""

    def words(self, text: str) -> list[tuple[int, int, list[float]]]: ...


@dataclass(frozen=True, slots=True)
class TokenCompression:
    """A ``Compressor`` by words; ``label`` is the one that says "keep"."""

    classifier: Words
    label: int = 1

    def __call__(
        self, question: str, passages: Sequence[Passage], budget: int, count: Count
    ) -> list[Passage]:
        """What is kept measures at most ``budget``; a passage without a kept word is gone."""
        words: list[tuple[float, int, Span]] = []
        for number, passage in enumerate(passages):
            chunk = passage.hit.chunk
            for start, end in passage.pieces:
                text = chunk.text[start - chunk.start : end - chunk.start]
                for first, last, probabilities in self.classifier.words(text):
                    span = (start + first, start + last)
                    words.append((probabilities[self.label], number, span))
        # Likeliest first, of equals the earlier: the longest beginning of this order that fits.
        order = sorted(words, key=lambda word: (-word[0], word[1], word[2]))
        low, high = 0, len(order)
        while low < high:
            middle = (low + high + 1) // 2
            fits = measure(_kept(passages, order[:middle]), count) <= budget
            low, high = (middle, high) if fits else (low, middle - 1)
        return _kept(passages, order[:low])


def _kept(passages: Sequence[Passage], words: Sequence[tuple[float, int, Span]]) -> list[Passage]:
    spans: list[list[Span]] = [[] for _ in passages]
    for _, number, span in words:
        spans[number].append(span)
    return [
        passage.keep(sorted(kept), joint=" ")
        for passage, kept in zip(passages, spans, strict=True)
        if kept
    ]
