"""Sparse vectors: for each text a few weighted terms out of a vocabulary, stored as the terms.

Shared by the encoders that make them (``splade``, ``impact``) and the index that searches them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SparseVectors:
    """Rows of weights above 0: row r has ``terms[starts[r]:starts[r + 1]]``, ascending, with the
    ``weights`` in step."""

    starts: NDArray[np.int64]  # [rows + 1]
    terms: NDArray[np.int32]  # [weights]
    weights: NDArray[np.float32]  # [weights]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def row(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The terms and weights of one row."""
        begin, end = self.starts[number : number + 2].tolist()
        return self.terms[begin:end], self.weights[begin:end]

    def dense(self, vocabulary: int) -> NDArray[np.float32]:  # [rows, vocabulary]
        """The same with its zeros."""
        full = np.zeros((len(self), vocabulary), np.float32)
        rows = np.repeat(np.arange(len(self)), np.diff(self.starts))
        full[rows, self.terms] = self.weights
        return full

    @classmethod
    def of_rows(
        cls, rows: Iterable[tuple[NDArray[np.int32], NDArray[np.float32]]]
    ) -> SparseVectors:
        """From the terms (ascending) and weights of each row."""
        given = [_NOTHING, *rows]
        starts = np.cumsum([len(terms) for terms, _ in given], dtype=np.int64)
        terms = np.concatenate([terms for terms, _ in given])
        weights = np.concatenate([weights for _, weights in given])
        return cls(starts, terms, weights)


_NOTHING = (np.empty(0, np.int32), np.empty(0, np.float32))


class SparseEncoder(Protocol):
    """Anything that turns texts into sparse vectors over one vocabulary."""

    def encode(self, texts: Sequence[str]) -> SparseVectors: ...
