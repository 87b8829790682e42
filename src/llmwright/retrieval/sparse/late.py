"""MaxSim over stored token vectors, exactly: for a shortlist, or for all of a small corpus.

    score(q, d) = mean over tokens i of q of  max over tokens j of d of  q_i . d_j

The mean, not ColBERT's sum, which orders the same query's hits alike and stays within [-1, 1], so
that it can be fused with cosines (Khattab and Zaharia, "ColBERT", 2020, arXiv 2004.12832).

Vectors are stored as whole numbers of one byte, each with the scale of its greatest component:

    v  ~  scale * c,     c in -127 ... 127,     scale = max |v_j| / 127

so a component is off by at most half a scale. ColBERTv2 (Santhanam et al., 2021, arXiv
2112.01488) stores centroid and residual in less; that pays from millions of texts on.

Costs dimension + 4 bytes a token and, for a query of n tokens, n * dimension multiplications for
each stored token looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmwright.retrieval.ranking.fusion import best_rows

_TOKENS_AT_ONCE = 16_384
_DECIMALS = 6  # products of one shape and another differ in the last bits; ties must not
_FILES = ("codes", "scales", "starts")


class TokenVectorStore:
    """The token vectors of all rows, one row after the other."""

    def __init__(
        self, codes: NDArray[np.int8], scales: NDArray[np.float32], starts: NDArray[np.int64]
    ) -> None:
        self._codes = codes  # [tokens, dimension]
        self._scales = scales  # [tokens]
        self._starts = starts  # [rows + 1]

    @classmethod
    def build(cls, vectors: Sequence[NDArray[np.float32]]) -> TokenVectorStore:
        """From the vectors of each row, [tokens, dimension]."""
        width = vectors[0].shape[1] if vectors else 0
        every = np.concatenate([*vectors, np.empty((0, width), np.float32)])
        scales = np.abs(every).max(axis=1, initial=0.0) / 127
        codes = np.rint(every / np.maximum(scales, 1e-30)[:, None]).astype(np.int8)
        starts = np.concatenate([[0], np.cumsum([len(part) for part in vectors])])
        return cls(codes, scales.astype(np.float32), starts.astype(np.int64))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def scores(
        self, query: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> NDArray[np.float32]:  # [rows given]
        """MaxSim of a query [tokens, dimension] with some rows; -1, the least, for one without
        a token."""
        found = np.full(len(rows), -1.0, np.float32)
        if not len(query):
            return found
        lengths = self._starts[rows + 1] - self._starts[rows]
        full = np.flatnonzero(lengths > 0)
        batch = (np.cumsum(lengths[full]) - lengths[full]) // _TOKENS_AT_ONCE
        for number in np.unique(batch):
            part = full[batch == number]
            spans = [np.arange(*self._starts[rows[i] : rows[i] + 2]) for i in part]
            tokens = np.concatenate(spans)
            near = query @ self._codes[tokens].astype(np.float32).T  # [query tokens, tokens]
            near *= self._scales[tokens]
            begins = np.cumsum([0, *(len(span) for span in spans[:-1])])
            found[part] = np.maximum.reduceat(near, begins, axis=1).mean(axis=0)
        return np.round(found, _DECIMALS)

    def search(
        self,
        query: NDArray[np.float32],
        top: int,
        allowed: NDArray[np.bool_] | None = None,
    ) -> list[tuple[int, float]]:
        """The ``top`` best of the allowed rows (all, where None) with scores, best first."""
        holds = np.diff(self._starts) > 0
        mask = holds if allowed is None else holds & allowed
        rows = np.flatnonzero(mask)
        if not len(query) or not len(rows):
            return []
        scores = self.scores(query, rows)
        best = best_rows(scores, np.ones(len(rows), np.bool_), top)
        return [(int(rows[i]), float(scores[i])) for i in best]

    @property
    def nbytes(self) -> int:
        """Bytes of the stored vectors."""
        return int(self._codes.nbytes + self._scales.nbytes)

    def save(self, folder: Path) -> None:
        """Write the arrays as .npy files."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            np.save(folder / f"{name}.npy", getattr(self, f"_{name}"))

    @classmethod
    def load(cls, folder: Path) -> TokenVectorStore:
        """Open saved arrays, mapped: processes share the memory."""
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in _FILES))
