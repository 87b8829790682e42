"""Embeddings from an OpenAI-compatible endpoint: OpenAI, vLLM, TEI, llama.cpp, Ollama, our own.

``POST {base_url}/embeddings`` with batches of texts. An attempt that finds no connection, times
out or is answered 408, 429 or 5xx is repeated, at most ``retries`` times, after the server's
``Retry-After`` or else a random part of ``backoff * 2**attempt`` seconds (full jitter; Brooker,
AWS, 2015). Vectors are scaled to length 1 here, whatever the server does.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any, Literal

import httpx
import numpy as np
from numpy.typing import NDArray

from llmwright.core import ConfigurationError, UpstreamError, content_hash, progress

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 60.0  # seconds
_FIXES = {
    401: "check the API key in OPENAI_API_KEY",
    403: "check what the API key may do",
    404: "check the address and the name of the model",
    429: "ask for less at a time, or raise the limit",
}


class RemoteEmbedder:
    """``model`` behind ``base_url`` (the part before ``/embeddings``).

    ``timeout`` bounds one attempt in seconds. The fingerprint is that of the address and the
    name, for what stands behind them cannot be seen from here.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str = "",
        *,
        languages: frozenset[str] | None = None,
        batch: int = 64,
        timeout: float = 60.0,
        retries: int = 3,
        backoff: float = 0.5,
    ) -> None:
        try:
            url = httpx.URL(base_url.rstrip("/") + "/embeddings")
        except httpx.InvalidURL as error:
            raise _bad_address(base_url) from error
        if url.scheme not in ("http", "https") or not url.host:
            raise _bad_address(base_url)
        api_key = api_key.strip()
        if not (api_key.isascii() and api_key.isprintable()):
            raise ConfigurationError(
                "the API key holds characters that no header may carry",
                where=url.host,
                fix="copy it again, as one line of ASCII",
            )
        self.name = model
        self.languages = languages
        self._where = str(url.copy_with(userinfo=b"", query=None))
        self.fingerprint = content_hash([self._where, model])
        self._url = url
        self._batch = batch
        self._retries = retries
        self._backoff = backoff
        self._api_key = api_key
        self._dimension = 0
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            trust_env=url.host not in ("localhost", "127.0.0.1", "::1"),
        )

    def __repr__(self) -> str:
        return f"RemoteEmbedder({self._where!r}, {self.name!r})"

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
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            wait = random.random() * min(self._backoff * 2**attempt, _LONGEST_WAIT)
            try:
                response = self._client.post(self._url, json=body)
            except httpx.HTTPError as error:
                if last or not isinstance(error, httpx.TransportError):
                    raise self._error(
                        f"no answer ({str(error) or type(error).__name__}), "
                        f"tried {attempt + 1} times",
                        "check that the server runs and the address is right",
                    ) from error
            else:
                if response.status_code == 200:
                    return self._parsed(response)
                if last or response.status_code not in _RETRIED:
                    status = response.status_code
                    fallback = "try again later" if status >= 500 else "change the request"
                    raise self._error(
                        f"answered {status}, {response.text[:200]!r}",
                        _FIXES.get(status, fallback),
                    )
                asked = response.headers.get("Retry-After", "")
                if asked.isdigit():
                    wait = min(float(asked), _LONGEST_WAIT)
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _parsed(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise self._error(f"answered what is not JSON: {response.text[:200]!r}") from error

    def _vectors(self, payload: Any, count: int) -> NDArray[np.float32]:
        """[count, dimension] from an answer, whose items may come in any order."""
        try:
            items = sorted(payload["data"], key=lambda item: item["index"])
            indexes = [item["index"] for item in items]
            vectors = np.array([item["embedding"] for item in items], dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise self._error(f"answered no vectors ({type(error).__name__}: {error})") from error
        size = vectors.shape[-1] if vectors.ndim == 2 else 0
        if indexes != list(range(count)) or size == 0 or self._dimension not in (0, size):
            raise self._error(
                f"answered {len(items)} vectors of {size} for {count} texts"
                + (f", and {self._dimension} long before" if self._dimension else "")
            )
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(norms).all() and norms.all()):
            raise self._error("answered a vector of zeros or with a value that is not a number")
        self._dimension = size
        return np.asarray(vectors / norms, dtype=np.float32)

    def _error(
        self, what: str, fix: str = "check that it speaks OpenAI's protocol"
    ) -> UpstreamError:
        if self._api_key:
            what = what.replace(self._api_key, "***")
        return UpstreamError(what, where=self._where, fix=fix)


def _bad_address(base_url: str) -> ConfigurationError:
    return ConfigurationError(
        f"{base_url!r} is not the address of an endpoint",
        where="base_url",
        fix="give something like http://localhost:8000/v1",
    )
