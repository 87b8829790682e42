"""The first coordinates of a model's vectors, scaled to length 1 again.

    e_m(x) = e(x)[:m] / |e(x)[:m]|

A model trained for it (Matryoshka) keeps most of its quality at an eighth of the length: Kusupati
et al., "Matryoshka Representation Learning" (2022), arXiv 2205.13147. What another model loses,
measure on your own questions.

Cost: that of the embedder; index and search cost in proportion to ``dimension``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmwright.core import ConfigurationError, Embedder, content_hash


def truncate(vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """Cut [n, longer] to unit vectors [n, dimension]; a cut that is all zeros stays so."""
    short = np.asarray(vectors[:, :dimension], np.float32)
    lengths = np.linalg.norm(short, axis=1, keepdims=True)
    out = np.zeros_like(short)
    np.divide(short, lengths, out=out, where=lengths > 0)
    return out


class TruncatedEmbedder:
    """An ``Embedder`` with the first ``dimension`` coordinates of another.

    Raises ``ConfigurationError`` where the other has not so many.
    """

    def __init__(self, embedder: Embedder, dimension: int) -> None:
        if not 1 <= dimension <= embedder.dimension:
            raise ConfigurationError(
                f"vectors of {embedder.dimension} cannot be cut to {dimension}",
                where=embedder.name,
                fix=f"give a dimension from 1 to {embedder.dimension}",
            )
        self.name = embedder.name
        self.dimension = dimension
        self.languages = embedder.languages
        inner = str(getattr(embedder, "fingerprint", ""))
        self.fingerprint = content_hash([inner, "dimension", dimension]) if inner else ""
        self._embedder = embedder

    def __repr__(self) -> str:
        return f"TruncatedEmbedder({self._embedder!r}, {self.dimension})"

    def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "document"] = "document"
    ) -> NDArray[np.float32]:
        """Vectors of ``texts``: [texts, dimension], each of length 1."""
        return truncate(self._embedder.embed(texts, kind=kind), self.dimension)
