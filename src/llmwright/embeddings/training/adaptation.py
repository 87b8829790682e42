"""Pairs to train on from documents alone, for whoever has documents and no questions.

* ``title``: a document's title asks for its text.
* ``sentence``: a sentence asks for the passage it was taken out of, the inverse cloze task. In
  one of ten pairs the sentence stays, so that matching words keep counting: Lee, Chang, Toutanova
  (2019), arXiv 1906.00300.
* ``neighbour``: a passage asks for the one behind it, as texts cropped from one document belong
  together in Izacard et al. (2021), "Contriever", arXiv 2112.09118.

Pairs of one document are one ``group``: none is a negative of another. What is learnt is the
language of these documents; the documents are known when an index is built, so nothing unseen is
given away. Cost: one pass over the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from llmwright.core import ConfigurationError, Document
from llmwright.embeddings.training.pairs import Pair

PairKind = Literal["title", "sentence", "neighbour"]
KINDS: tuple[PairKind, ...] = ("title", "sentence", "neighbour")

_KEPT = 0.1  # share of pairs whose passage keeps the sentence
_LEAST = 5  # words of a sentence that asks
_PASSAGE = 120  # words, about
_END = re.compile(r"(?<=[.!?])\s+")


def document_pairs(
    documents: Sequence[Document],
    kinds: Sequence[PairKind] = KINDS,
    *,
    per_document: int = 4,
    seed: int = 0,
) -> list[Pair]:
    """Pairs of each kind from every document; of sentences and of neighbours at most
    ``per_document`` each, drawn by ``seed``.

    A document without a title, or of fewer than two sentences, gives none of that kind. Raises
    ``ConfigurationError`` for a kind that is not known.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ConfigurationError(
            f"{unknown[0]!r} is no kind of pair", where="kinds", fix=f"use {', '.join(KINDS)}"
        )
    pairs: list[Pair] = []
    for number, document in enumerate(documents):
        rng = np.random.default_rng([seed, number])
        title, body = document.title.strip(), _body(document)
        if "title" in kinds and title and body:
            pairs.append(Pair(title, body, group=document.id))
        passages = list(_passages(body))
        if "sentence" in kinds:
            pairs += _drawn(list(_clozes(document, passages, rng)), per_document, rng)
        if "neighbour" in kinds:
            steps = [Pair(a, b, group=document.id) for a, b in pairwise(map(" ".join, passages))]
            pairs += _drawn(steps, per_document, rng)
    return pairs


def _body(document: Document) -> str:
    """The text without a title that it begins with: finding that again teaches nothing."""
    text, title = document.text.strip(), document.title.strip()
    return text[len(title) :].strip() if title and text.startswith(title) else text


def _passages(text: str) -> Iterator[list[str]]:
    """Runs of sentences of about ``_PASSAGE`` words."""
    passage: list[str] = []
    words = 0
    for sentence in _END.split(text):
        if not sentence.strip():
            continue
        if passage and words + len(sentence.split()) > _PASSAGE:
            yield passage
            passage, words = [], 0
        passage.append(sentence)
        words += len(sentence.split())
    if passage:
        yield passage


def _clozes(
    document: Document, passages: Sequence[list[str]], rng: np.random.Generator
) -> Iterator[Pair]:
    for passage in passages:
        for place, sentence in enumerate(passage):
            rest = passage if rng.random() < _KEPT else passage[:place] + passage[place + 1 :]
            if len(sentence.split()) >= _LEAST and rest:
                text = "\n".join(filter(None, (document.title.strip(), " ".join(rest))))
                yield Pair(sentence, text, group=document.id)


def _drawn(pairs: list[Pair], count: int, rng: np.random.Generator) -> list[Pair]:
    return [pairs[place] for place in sorted(rng.permutation(len(pairs))[:count])]
