"""Questions without a model: a sentence with a gap (Taylor, 1953, "Cloze procedure"), and a
heading to be found. They share their words with the text, which real questions do not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from llmwright.evaluation.groundedness import claims
from llmwright.evaluation.rag.passage import Passage
from llmwright.retrieval.chunking.sentences import split_sentences

_GAP = "____"
_LEAST, _MOST = 8, 40  # words of a sentence


def cloze_records(passages: Sequence[Passage]) -> Iterator[dict[str, Any]]:
    """For each passage the sentence whose name or number is rarest among the passages, with that
    as the gap; then, for those with a heading of two words or more that no other has, the
    heading."""
    seen = Counter(fact for p in passages for s in set(_sentences(p.text)) for fact in claims(s)[1])
    headings = Counter(p.heading.strip().lower() for p in passages)
    for passage in passages:
        if found := _gap(passage, seen):
            sentence, answer = found
            yield _record(passage, f"Fill the gap: {sentence}", answer, "cloze")
        heading = passage.heading.strip()
        if len(heading.split()) > 1 and headings[heading.lower()] == 1:
            sentences = _sentences(passage.text)
            yield _record(passage, f"What do the documents say about {heading}?",
                          sentences[0], "heading")  # fmt: skip


def _gap(passage: Passage, seen: Counter[str]) -> tuple[str, str] | None:
    best: tuple[int, str, str] | None = None
    for sentence in _sentences(passage.text):
        if not _LEAST <= len(sentence.split()) <= _MOST or "`" in sentence or "|" in sentence:
            continue
        for word in re.findall(r"[^\W_][\w.,:’'-]*[\w%]|\d", sentence):
            facts = claims(f"a {word}")[1]  # not at the head, where all words have capitals
            if len(facts) == 1 and sentence.count(word) == 1 and not sentence.startswith(word):
                rare = seen[next(iter(facts))]
                if best is None or rare < best[0]:
                    best = rare, sentence.replace(word, _GAP), word
    return None if best is None else best[1:]


def _sentences(text: str) -> list[str]:
    """Sentences on one line each: documents are wrapped."""
    return [" ".join(text[start:end].split()) for start, end in split_sentences(text)]


def _record(passage: Passage, question: str, answer: str, kind: str) -> dict[str, Any]:
    return {
        "question": question,
        "answer": answer,
        "relevant": [passage.label],
        "type": kind,
        "document": passage.document,
    }
