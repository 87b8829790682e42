"""BM25: which passages share rare words with the query.

    score(q, d) = sum over t in q of  idf(t) * tf(t, d) / (tf(t, d) + k1 (1 - b + b |d| / avg|d|))
    idf(t)      = ln(1 + (N - df(t) + 1/2) / (df(t) + 1/2))

This is Lucene's form (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond", 2009; Kamphuis et al., "Which BM25 do you mean?", 2020, who find that the variants do
not differ by more than chance), with bm25s's defaults k1 = 1.5 and b = 0.75. The scores of all
(term, passage) pairs are computed when the index is written and looked up when it is asked (Lù,
"BM25S", arXiv 2407.03618); they are kept as bm25s's matrix, in its files.

A passage's terms are the stems of its words and their character 4-grams. In a query each word
weighs 1 by its stem, and the mean of its 4-grams weighs 1 more. Function words stay: idf makes
little of them, and "The Who" or "to be" need them. (XQuAD R@1 with stems alone, stems and
4-grams: Russian 0.915, 0.934; English 0.935, 0.946. Removing stop words: 0.916 and 0.934.)

A term is known by a hash instead of a number from a growing list, so passages analysed on
different days fit together without being read again: adding documents costs one vectorised pass
over stored integers. Hashes have 63 bits and a sign, negative for 4-grams; two of a million
terms share one in less than one index of a million.

Cost: 16 bytes a posting (the matrix is kept by term and by passage); under a
millisecond a query on a hundred passages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
from numpy.typing import NDArray

from llmwright.retrieval.lexical.analysis import analyze_query, fragments, terms, words

K1 = 1.5
B = 0.75


def term_hash(term: str, fragment: bool = False) -> int:
    """A number that stands for a term, the same on every machine: 0 or more for a stem, below 0
    for a fragment of a word."""
    digest = blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    number = int.from_bytes(digest, "little") >> 1
    return -1 - number if fragment else number


def passage_terms(text: str, language: str) -> NDArray[np.int64]:
    """Hashes of a passage's stems and 4-grams, each as often as it occurs."""
    hashes = [_word_hashes(word, script, language) for word, script in words(text)]
    return np.fromiter(chain.from_iterable(hashes), dtype=np.int64)


@lru_cache(maxsize=1 << 14)
def _word_hashes(word: str, script: str, language: str) -> tuple[int, ...]:
    stems = [term_hash(term) for term in terms(word, script, language)]
    return (*stems, *(term_hash(gram, fragment=True) for gram in fragments(word, script)))


def query_terms(text: str, languages: Sequence[str]) -> dict[int, float]:
    """Hashes of what a query looks for, with weights; a word said twice weighs twice.

    A word is stemmed in each of ``languages``; the stems, of which a passage holds the one of
    its own language, weigh 1 each.
    """
    weights: dict[int, float] = {}
    for stems in analyze_query(text, languages):
        for stem in stems:
            number = term_hash(stem)
            weights[number] = weights.get(number, 0.0) + 1.0
    for word, script in words(text):
        grams = fragments(word, script)
        for gram in grams:
            number = term_hash(gram, fragment=True)
            weights[number] = weights.get(number, 0.0) + 1.0 / len(grams)
    return weights


class BM25:
    """Scores of all passages for a query. Rows are passages in the order they were given."""

    def __init__(
        self, terms: NDArray[np.int64], matrix: bm25s.BM25, rows: dict[str, NDArray[Any]]
    ) -> None:
        self._terms = terms  # [vocabulary], sorted
        self._matrix = matrix
        self._rows = rows  # the same matrix by passage: "indptr", "columns", "data"

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
        by_row = np.argsort(row, kind="stable")
        ends = np.cumsum(np.bincount(row, minlength=rows))
        passages = {
            "indptr": np.concatenate([[0], ends]).astype(np.int64),
            "columns": column[by_row].astype(np.int32),
            "data": data[by_row].astype(np.float32),
        }
        return cls(vocabulary, matrix, passages)

    def score(self, query: Mapping[int, float]) -> NDArray[np.float32]:
        """Scores [passages] for weighted terms; those that no passage holds are passed over."""
        scores = np.zeros(self.rows, np.float32)
        for number, weight in query.items():
            rows, values = self.postings(number)
            scores[rows] += np.float32(weight) * values  # a row occurs once among the postings
        return scores

    @property
    def rows(self) -> int:
        return int(self._matrix.scores["num_docs"])

    def postings(self, term: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The passages that hold a term, ascending, and what it gives to the score of each."""
        column = int(np.searchsorted(self._terms, term))
        if column == len(self._terms) or self._terms[column] != term:
            column, end = 0, 0
        else:
            column, end = self._matrix.scores["indptr"][column : column + 2].tolist()
        scores = self._matrix.scores
        return scores["indices"][column:end], scores["data"][column:end]

    def passage(self, row: int) -> dict[int, float]:
        """What each stem of a passage gives to its score; fragments of words are left out."""
        begin, end = self._rows["indptr"][row : row + 2].tolist()
        terms = self._terms[self._rows["columns"][begin:end]].tolist()
        data = self._rows["data"][begin:end].tolist()
        return {t: value for t, value in zip(terms, data, strict=True) if t >= 0}

    def save(self, folder: Path) -> None:
        self._matrix.save(folder, show_progress=False)
        np.save(folder / "terms.npy", self._terms)
        for name, array in self._rows.items():
            np.save(folder / f"rows.{name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> BM25:
        """Open a saved index; the arrays are mapped, so that processes share the memory."""
        matrix: Any = bm25s.BM25.load(folder, mmap=True, load_vocab=False, show_progress=False)
        rows = {
            name: np.load(folder / f"rows.{name}.npy", mmap_mode="r")
            for name in ("indptr", "columns", "data")
        }
        return cls(np.load(folder / "terms.npy", mmap_mode="r"), matrix, rows)
