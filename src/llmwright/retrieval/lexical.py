"""BM25: which passages share rare words with the query.

    score(q, d) = sum over t in q of  idf(t) * tf(t, d) / (tf(t, d) + k1 (1 - b + b |d| / avg|d|))
    idf(t)      = ln(1 + (N - df(t) + 1/2) / (df(t) + 1/2))

This is Lucene's form (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond", 2009; Kamphuis et al., "Which BM25 do you mean?", 2020, who find that the variants do
not differ by more than chance), with bm25s's defaults k1 = 1.5 and b = 0.75. The scores of all
(term, passage) pairs are computed when the index is written and looked up when it is asked (Lù,
"BM25S", arXiv 2407.03618): bm25s keeps, maps and sums them.

A term is known by a 64-bit hash instead of a number from a growing list, so passages analysed
on different days fit together without being read again: adding documents costs one vectorised
pass over stored integers. Two of a million different terms share a hash once in 4 * 10^7
indexes.

Cost: 8 bytes a posting; building takes about 0.2 s for a million words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
from numpy.typing import NDArray

K1 = 1.5
B = 0.75


@lru_cache(maxsize=1 << 18)
def term_hash(term: str) -> int:
    """A signed 64-bit number that stands for the term, the same on every machine."""
    digest = blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def hash_terms(terms: Iterable[str]) -> NDArray[np.int64]:
    return np.fromiter(map(term_hash, terms), dtype=np.int64)


class BM25:
    """Scores of all passages for a query. Rows are passages in the order they were given."""

    def __init__(self, terms: NDArray[np.int64], scores: bm25s.BM25) -> None:
        self._terms = terms  # [vocabulary], sorted
        self._scores = scores

    @classmethod
    def build(
        cls, terms: NDArray[np.int64], lengths: NDArray[np.int64], k1: float = K1, b: float = B
    ) -> BM25:
        """Index passages from the hashes of their terms.

        ``terms`` [words of all passages, one passage after the other]; ``lengths`` [passages].
        """
        rows = len(lengths)
        vocabulary, word = np.unique(terms, return_inverse=True)
        row = np.repeat(np.arange(rows, dtype=np.int64), lengths)
        # One number for each (term, passage), ordered by term: the layout of a CSC matrix.
        pair, tf = np.unique(word.astype(np.int64) * max(rows, 1) + row, return_counts=True)
        column, row = pair // max(rows, 1), pair % max(rows, 1)
        df = np.bincount(column, minlength=len(vocabulary))  # [vocabulary]
        idf = np.log(1 + (rows - df + 0.5) / (df + 0.5))
        mean = lengths.mean() if len(terms) else 1.0
        norm = k1 * (1 - b + b * lengths / mean)  # [passages]
        data = idf[column] * tf / (tf + norm[row])  # [pairs]
        matrix = bm25s.BM25(k1=k1, b=b, method="lucene")
        matrix.scores = {
            "data": data.astype(np.float32),
            "indices": row.astype(np.int32),
            "indptr": np.concatenate([[0], np.cumsum(df)]).astype(np.int64),
            "num_docs": rows,
        }
        matrix.vocab_dict = {}
        matrix.nonoccurrence_array = None
        return cls(vocabulary, matrix)

    def score(self, query: Sequence[tuple[str, ...]]) -> NDArray[np.float32]:
        """Scores [passages] for the positions of a query, each a set of terms that count alike.

        A word said twice counts twice; words that no passage holds are passed over.
        """
        wanted = hash_terms(term for terms in query for term in terms)
        place = np.searchsorted(self._terms, wanted)
        place[place == len(self._terms)] = 0
        known = place[self._terms[place] == wanted] if len(self._terms) else place[:0]
        scores: NDArray[np.float32] = self._scores.get_scores_from_ids(known.tolist())
        return scores

    def save(self, folder: Path) -> None:
        self._scores.save(folder, show_progress=False)
        np.save(folder / "terms.npy", self._terms)

    @classmethod
    def load(cls, folder: Path) -> BM25:
        """Open a saved index; the arrays are mapped, so that processes share the memory."""
        matrix: Any = bm25s.BM25.load(folder, mmap=True, load_vocab=False, show_progress=False)
        return cls(np.load(folder / "terms.npy", mmap_mode="r"), matrix)
