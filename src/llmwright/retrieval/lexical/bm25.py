"""BM25: which passages share rare words with the query.

    score(q, d) = sum over t in q of  idf(t) * tf(t, d) / (tf(t, d) + k1 (1 - b + b |d| / avg|d|))
    idf(t)      = ln(1 + (N - df(t) + 1/2) / (df(t) + 1/2))

This is Lucene's form (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond", 2009; Kamphuis et al., "Which BM25 do you mean?", 2020, who find that the variants do
not differ by more than chance), with bm25s's defaults k1 = 1.5 and b = 0.75, and equals bm25s's
scores. What a term is, ``terms`` says; how passages are kept, ``postings``.

Passages stand in segments that never change, with a mask of those that live. N, df and the mean
length count live passages over all segments, when asked: so a score depends on what is in the
index, and not on the order in which it came, nor on what was there before.

Cost: about 2 ns for each posting of the query's terms, 4 bytes a passage for a query's scores.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmwright.core import read_json, write_json
from llmwright.retrieval.lexical.arrays import Arrays, write_arrays
from llmwright.retrieval.lexical.postings import MAX_ROWS, Postings
from llmwright.retrieval.lexical.scoring import Part, Scorer

K1 = 1.5
B = 0.75

Live = NDArray[np.bool_] | None


class BM25:
    """Scores of all passages for a query. Rows are passages in the order they were given, one
    segment after the other; those that do not live keep their numbers. Safe to use from many
    threads."""

    def __init__(
        self,
        segments: Sequence[Postings],
        live: Sequence[Live] | None = None,
        k1: float = K1,
        b: float = B,
    ) -> None:
        """``live`` [segments] holds for each a mask [passages], or None where all live."""
        self._postings, self._k1, self._b = list(segments), k1, b
        masks = list(live) if live is not None else [None] * len(self._postings)
        self._bases = [0, *accumulate(len(part.lengths) for part in self._postings)]
        lengths = [
            part.lengths if mask is None else part.lengths[mask]
            for part, mask in zip(self._postings, masks, strict=True)
        ]
        self._alive = sum(map(len, lengths))  # N
        total = sum(int(part.sum(dtype=np.int64)) for part in lengths)
        mean = total / self._alive if total else 1.0
        parts = []
        for part, mask in zip(self._postings, masks, strict=True):
            norms = (k1 * (1 - b + b * part.lengths / mean)).astype(np.float32)  # [passages]
            once = np.float32(1) / (1 + norms)
            shared = part.terms, part.starts, part.rows, part.many, part.counts
            parts.append(Part(*shared, norms, once, mask))
        self._parts = parts
        self._scorer = Scorer(parts)

    @classmethod
    def build(
        cls, terms: NDArray[np.int64], lengths: NDArray[np.int64], k1: float = K1, b: float = B
    ) -> BM25:
        """Index passages from the hashes of their terms.

        ``terms`` [words of all passages, one passage after the other]; ``lengths`` [passages].
        """
        ends = np.concatenate([[0], np.cumsum(lengths)])
        segments = [
            Postings.build(terms[ends[i] : ends[min(i + MAX_ROWS, len(lengths))]], part)
            for i in range(0, len(lengths), MAX_ROWS)
            for part in [lengths[i : i + MAX_ROWS]]
        ]
        return cls(segments, k1=k1, b=b)

    @property
    def rows(self) -> int:
        """Passages, with those that do not live."""
        return self._bases[-1]

    def score(
        self,
        query: Mapping[int, float],
        onto: NDArray[np.float32] | None = None,
        scale: float = 1.0,
    ) -> NDArray[np.float32]:
        """Scores [passages] for weighted terms; those that no passage holds are passed over.

        Scores are linear in the weights: ``onto`` gives the scores of a query before, which are
        multiplied by ``scale`` and added to, in place.
        """
        if onto is None:
            onto, scale = np.empty(self.rows, np.float32), 0.0
        terms = np.fromiter(query.keys(), np.int64, len(query))
        weights = np.fromiter(query.values(), np.float64, len(query))
        places, df = self._scorer.find(terms)
        self._scorer.add(places, (weights * self._idf(df)).astype(np.float32), onto, scale)
        return onto

    def best(
        self, scores: NDArray[np.float32], top: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ``top`` best live rows of each segment, and their scores, of those above 0 that are
        ``allowed`` [passages]: of one segment, best first, equal ones by row. Of several, one
        segment behind the other, without some that cannot be among the best of all: what order
        equal rows of different segments have is the caller's to say."""
        return self._scorer.best(scores, allowed, top)

    def search(self, query: Mapping[int, float], top: int = 10) -> list[tuple[int, float]]:
        """The ``top`` best rows with their scores, best first, equal ones by row."""
        rows, scores = self.best(self.score(query), top)
        order = np.argsort(-scores, kind="stable")[:top]
        return list(zip(rows[order].tolist(), scores[order].tolist(), strict=True))

    def gains(self, rows: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The stems of some passages, ascending, and what each gives to their scores together;
        fragments of words are left out."""
        stems, shares = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        for row in rows:
            segment = bisect_right(self._bases, row) - 1
            own = row - self._bases[segment]
            terms, counts = self._postings[segment].passage(own)
            counts = counts.astype(np.float32)
            stems.append(terms)
            shares.append(counts / (counts + self._parts[segment].norms[own]))
        every = np.concatenate(stems)
        _, df = self._scorer.find(every)
        gains = self._idf(df).astype(np.float32) * np.concatenate(shares)
        different, place = np.unique(every, return_inverse=True)
        return different, np.bincount(place, gains, len(different)).astype(np.float64)

    def passage(self, row: int) -> dict[int, float]:
        """What each stem of a passage gives to its score."""
        terms, gains = self.gains([row])
        return dict(zip(terms.tolist(), gains.tolist(), strict=True))

    def save(self, folder: Path) -> None:
        """Write it to a folder, a file for each segment; all of its passages must live."""
        write_json(folder / "bm25.json", {"k1": self._k1, "b": self._b, "n": len(self._postings)})
        for number, part in enumerate(self._postings):
            write_arrays(folder / f"{number}.safetensors", part.arrays())

    @classmethod
    def load(cls, folder: Path) -> BM25:
        """Open a saved index; the arrays are mapped, so that processes share the memory."""
        about = read_json(folder / "bm25.json")
        files = [Arrays(folder / f"{number}.safetensors") for number in range(about["n"])]
        return cls([Postings.of_arrays(file) for file in files], k1=about["k1"], b=about["b"])

    def _idf(self, df: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(np.log(1 + (self._alive - df + 0.5) / (df + 0.5)))
