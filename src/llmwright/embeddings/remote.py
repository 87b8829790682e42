"""Embeddings from an OpenAI-compatible endpoint: OpenAI, vLLM, TEI, llama.cpp, Ollama, our own.

``POST {base_url}/embeddings`` with batches of texts; what fails on the way is tried again by the
rules of ``core.Endpoint``. Vectors are scaled to length 1 here, whatever the server does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

import httpx
import numpy as np
from numpy.typing import NDArray

from llmwright.core import Endpoint, content_hash, progress


class RemoteEmbedder:
    """``model`` behind ``base_url`` (the part before ``/embeddings``).

    ``timeout`` bounds one attempt in seconds. The fingerprint is that of the address and the
    name, for what stands behind them cannot be seen from here.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        languages: frozenset[str] | None = None,
        batch: int = 64,
        timeout: float = 60.0,
        retries: int = 3,
        backoff: float = 0.5,
    ) -> None:
        self.name = model
        self.languages = languages
        self._endpoint = Endpoint(
            base_url, "/embeddings", api_key, timeout=timeout, retries=retries, backoff=backoff
        )
        self.fingerprint = content_hash([self._endpoint.where, model])
        self._batch = batch
        self._dimension = 0
        self._client = httpx.Client(**self._endpoint.client_options())

    def __repr__(self) -> str:
        return f"RemoteEmbedder({self._endpoint.where!r}, {self.name!r})"

    @property
    def dimension(self) -> int:
        """Length of the vectors; costs a request when nothing was embedded yet."""
        if not self._dimension:
            self.embed(["dimension"])
        return self._dimension

    def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "document"] = "document"
    ) -> NDArray[np.float32]:
        """Vectors of ``texts``: [texts, dimension], each of length 1. Raises ``UpstreamError``."""
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        parts = []
        with progress("embedding", total=len(texts), unit="texts") as advance:
            for start in range(0, len(texts), self._batch):
                part = list(texts[start : start + self._batch])
                parts.append(self._vectors(self._post(part), len(part)))
                advance(len(part))
        return np.concatenate(parts)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _post(self, texts: list[str]) -> Any:
        body = {"model": self.name, "input": texts, "encoding_format": "float"}
        attempt = 0
        while True:
            try:
                response = self._client.post(self._endpoint.url, json=body)
            except httpx.HTTPError as error:
                wait = self._endpoint.wait_after(error, attempt)
            else:
                if response.status_code == 200:
                    return self._endpoint.payload(response.text)
                wait = self._endpoint.wait_after(response, attempt)
            time.sleep(wait)
            attempt += 1

    def _vectors(self, payload: Any, count: int) -> NDArray[np.float32]:
        """[count, dimension] from an answer, whose items may come in any order."""
        try:
            items = sorted(payload["data"], key=lambda item: item["index"])
            indexes = [item["index"] for item in items]
            vectors = np.array([item["embedding"] for item in items], dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise self._endpoint.error(
                f"answered no vectors ({type(error).__name__}: {error})"
            ) from error
        size = vectors.shape[-1] if vectors.ndim == 2 else 0
        if indexes != list(range(count)) or size == 0 or self._dimension not in (0, size):
            raise self._endpoint.error(
                f"answered {len(items)} vectors of {size} for {count} texts"
                + (f", and {self._dimension} long before" if self._dimension else "")
            )
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(norms).all() and norms.all()):
            raise self._endpoint.error(
                "answered a vector of zeros or with a value that is not a number"
            )
        self._dimension = size
        return np.asarray(vectors / norms, dtype=np.float32)
