"""A real, tiny embedder for tests: random projections of character trigrams."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray


class HashingEmbedder:
    """Texts that share trigrams lie near each other. Exact for each text, whatever its batch."""

    def __init__(
        self,
        languages: frozenset[str] | None = frozenset({"en"}),
        dimension: int = 32,
        seed: int = 0,
        fingerprint: str = "",
    ) -> None:
        self.name = f"hashing-{dimension}-{seed}"
        self.dimension = dimension
        self.languages = languages
        self.fingerprint = fingerprint
        self.embedded: list[str] = []
        self._table = np.random.default_rng(seed).normal(size=(512, dimension))

    def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "document"] = "document"
    ) -> NDArray[np.float32]:
        if kind == "document":
            self.embedded += texts
        vectors = [self._one(text.casefold()) for text in texts]
        return np.array(vectors, np.float32).reshape(len(texts), self.dimension)

    def _one(self, text: str) -> NDArray[np.float64]:
        padded = f" {text} "
        grams = [padded[i : i + 3] for i in range(len(padded) - 2)] or [padded]
        vector = np.zeros(self.dimension)
        for gram in grams:
            vector += self._table[zlib.crc32(gram.encode("utf-8", "surrogatepass")) % 512]
        return vector / (np.linalg.norm(vector) or 1.0)
