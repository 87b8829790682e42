"""Real passages repeated with changes, in any number, with vectors that cost no embedding.

Passages are those of XQuAD (English), Cranfield, HotpotQA and MuSiQue. A variant keeps about two
thirds of a passage's sentences and takes the others from passages drawn at random from all four,
so words keep the frequencies they have in real text, while no two variants are the same and each
has near neighbours, as in a real collection of many versions. Sentences stand on lines of their
own. A variant's vector is the mean of MiniLM's vectors of its sentences, brought to length 1:
to embed a million passages takes hours, the 30,000 different sentences minutes. Queries are the
sets' own questions, embedded by MiniLM as always.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmwright.core import Document, Embedder

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def passages(data: Path) -> list[list[str]]:
    """Sentences of each real passage."""
    texts = [
        paragraph["context"]
        for article in json.loads((data / "xquad" / "xquad.en.json").read_text("utf-8"))["data"]
        for paragraph in article["paragraphs"]
    ]
    cranfield = (data / "cranfield" / "cran.all.1400.xml").read_text("utf-8")
    texts += re.findall(r"<text>(.*?)</text>", cranfield, re.DOTALL)
    for name in ("hotpot", "musique"):
        with (data / "multihop" / f"{name}_corpus.jsonl").open(encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                texts.append(f"{record['title']}. {record['text']}")
    cut = ([" ".join(s.split()) for s in _SENTENCE.split(text)] for text in texts)
    return [kept for sentences in cut if (kept := [s for s in sentences if len(s) > 1])]


def questions(data: Path) -> list[str]:
    """The sets' own questions, the sets taking turns."""
    articles = json.loads((data / "xquad" / "xquad.en.json").read_text("utf-8"))["data"]
    xquad = [q["question"] for a in articles for p in a["paragraphs"] for q in p["qas"]]
    asked = (data / "cranfield" / "cran.qry.xml").read_text("utf-8")
    sets = [xquad, [" ".join(q.split()) for q in re.findall(r"<title>(.*?)</title>", asked, re.S)]]
    for name in ("hotpot", "musique"):
        lines = (data / "multihop" / f"{name}_queries.jsonl").read_text("utf-8").splitlines()
        sets.append([json.loads(line)["text"] for line in lines if line])
    return [q for group in zip(*sets, strict=False) for q in group]


def variants(
    real: Sequence[Sequence[str]], count: int, seed: int = 0, name: str = "v"
) -> Iterator[Document]:
    """``count`` documents, the same for the same seed, whatever the count."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        passage = real[int(rng.integers(len(real)))]
        drawn = rng.random(len(passage)) < 1 / 3
        sentences = [
            _drawn(real, rng) if other else own
            for own, other in zip(passage, drawn.tolist(), strict=True)
        ]
        yield Document(f"{name}{number:07d}", "\n".join(sentences), language="en")


def _drawn(real: Sequence[Sequence[str]], rng: np.random.Generator) -> str:
    passage = real[int(rng.integers(len(real)))]
    return passage[int(rng.integers(len(passage)))]


class SentenceMeans:
    """An ``Embedder`` of variants by their sentences' vectors, of queries by the real model."""

    fingerprint = "means of sentences"

    def __init__(self, embedder: Embedder, sentences: Sequence[str] = ()) -> None:
        self._embedder = embedder
        self.name, self.dimension = f"{embedder.name}, sentence means", embedder.dimension
        self.languages = embedder.languages
        self._row = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
        self._vectors = embedder.embed(list(self._row)) if self._row else np.zeros((0, 0))

    def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "document"] = "document"
    ) -> NDArray[np.float32]:
        if kind == "query":
            return self._embedder.embed(texts, kind="query")
        lines = [[self._row[line] for line in text.split("\n")] for text in texts]
        starts = np.cumsum([0, *map(len, lines)])[:-1]
        rows = np.array([row for text in lines for row in text])
        sums = np.add.reduceat(self._vectors[rows], starts, axis=0)  # [texts, dimension]
        return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), np.float32)
