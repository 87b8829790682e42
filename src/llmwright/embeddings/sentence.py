"""Any sentence-transformers model as an embedder: what our own encoder does not compute.

The library is an extra of its own; it is imported when the first such model is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llmwright.core import MissingDependencyError, ModelSourceError, progress

_BATCH = 32
_SLICE = 1024  # texts between two steps of the progress bar


class SentenceTransformerEmbedder:
    """An ``Embedder`` around ``SentenceTransformer``. No code that a model brings is run."""

    def __init__(
        self, folder: Path, *, name: str, fingerprint: str, languages: frozenset[str] | None
    ) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingDependencyError(
                "this embedding model needs sentence-transformers, which is not installed",
                where=name,
                fix="install it with: pip install 'llmwright[hub]'",
            ) from error
        try:
            self._model: Any = SentenceTransformer(
                str(folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
            first = str(error).strip().partition("\n")[0]
            raise ModelSourceError(
                f"sentence-transformers cannot open it ({first})",
                where=name,
                fix="check that the folder holds an embedding model",
            ) from error
        self.name = name
        self.fingerprint = fingerprint
        self.languages = languages
        self.dimension = int(self._model.get_embedding_dimension() or 0)

    def __repr__(self) -> str:
        return f"SentenceTransformerEmbedder({self.name!r}, dimension={self.dimension})"

    def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "document"] = "document"
    ) -> NDArray[np.float32]:
        """Vectors of ``texts``: [texts, dimension], each of length 1."""
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        parts = []
        with progress("embedding", total=len(texts), unit="texts") as advance:
            for start in range(0, len(texts), _SLICE):
                part = list(texts[start : start + _SLICE])
                vectors = encode(
                    part, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False
                )
                parts.append(np.asarray(vectors, dtype=np.float32))
                advance(len(part))
        return np.concatenate(parts)
