"""An inverted index of float weights: for each term, which rows hold it and how much it weighs.

    score(q, d) = sum over t in q of  w_t(q) w_t(d)

computed term by term over the postings of the query's terms alone, exactly: it equals the product
of the dense vectors up to the order of the sum. BM25's index has the same form, with weights that
are counted; here an encoder learned them (``embeddings.splade``, ``embeddings.impact``).

Costs 8 bytes a weight; a query costs the postings of its terms.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmwright.embeddings.sparse import SparseVectors
from llmwright.retrieval.ranking.fusion import best_rows

_FILES = ("starts", "rows", "weights", "shape")


class InvertedIndex:
    """Rows of sparse vectors by their terms."""

    def __init__(
        self,
        starts: NDArray[np.int64],
        rows: NDArray[np.int32],
        weights: NDArray[np.float32],
        shape: NDArray[np.int64],
    ) -> None:
        self._starts = starts  # [terms + 1]
        self._rows = rows  # [postings], ascending within a term
        self._weights = weights  # [postings]
        self._shape = shape  # [1]: rows

    @classmethod
    def build(cls, vectors: SparseVectors) -> InvertedIndex:
        """Turn rows of terms into terms of rows."""
        order = np.argsort(vectors.terms, kind="stable")
        rows = np.repeat(np.arange(len(vectors), dtype=np.int32), np.diff(vectors.starts))
        counts = np.bincount(vectors.terms)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(starts, rows[order], vectors.weights[order], np.array([len(vectors)]))

    def __len__(self) -> int:
        return int(self._shape[0])

    def scores(
        self, terms: NDArray[np.int32], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:  # [rows]
        """The score of every row for a query's terms and weights; unknown terms are passed over."""
        total = np.zeros(len(self), np.float32)
        for term, weight in zip(terms.tolist(), weights.tolist(), strict=True):
            if 0 <= term < len(self._starts) - 1:
                begin, end = self._starts[term : term + 2].tolist()
                # A row occurs once among a term's postings.
                total[self._rows[begin:end]] += np.float32(weight) * self._weights[begin:end]
        return total

    def search(
        self,
        terms: NDArray[np.int32],
        weights: NDArray[np.float32],
        top: int,
        allowed: NDArray[np.bool_] | None = None,
    ) -> list[tuple[int, float]]:
        """The ``top`` allowed rows (all, where None) that share a term, with scores, best first."""
        scores = self.scores(terms, weights)
        mask = scores > 0
        if allowed is not None:
            mask &= allowed
        return [(int(row), float(scores[row])) for row in best_rows(scores, mask, top)]

    def save(self, folder: Path) -> None:
        """Write the arrays as .npy files."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            np.save(folder / f"{name}.npy", getattr(self, f"_{name}"))

    @classmethod
    def load(cls, folder: Path) -> InvertedIndex:
        """Open saved arrays, mapped: processes share the memory."""
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in _FILES))
