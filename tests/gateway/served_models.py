"""Models and an embedder to serve, and what is asked of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import httpx
import numpy as np

from llmwright.core import Chunk, Completion, Delta, Hit, Message, SamplingParams
from llmwright.providers import ScriptedModel

KEY = "k-secret"
TEXT = "Rank is the width of the matrices."
HIT = Hit(Chunk("c", "lora.md", TEXT, 7, 7 + len(TEXT), "LoRA > Rank", "en"), 0.5)
OTHER = Hit(Chunk("e", "bits.md", "Four bits.", 0, 10, "", "en"), 0.25)
ASK = [{"role": "user", "content": "What is rank?"}]


class Letters:
    """An embedder by counting letters: a reference that is easy to compute."""

    name, dimension, languages = "letters", 26, None

    def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "document"] = "document"
    ) -> np.ndarray:
        counts = np.array([[text.count(chr(97 + at)) for at in range(26)] for text in texts])
        vectors = counts + (kind == "query")
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def count(self, text: str) -> int:
        return len(text.split())


class Broken:
    """Fails after ``after`` pieces."""

    name = "broken"

    def __init__(self, error: Exception, after: int = 0) -> None:
        self.error, self.after = error, after

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        raise self.error

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncIterator[Delta]:
        for _ in range(self.after):
            yield Delta("piece ")
        raise self.error


class Recording(ScriptedModel):
    """Keeps the parameters it was called with."""

    seen: SamplingParams | None = None

    async def stream(self, messages, params=None):  # type: ignore[no-untyped-def]
        self.seen = params
        async for delta in super().stream(messages, params):
            yield delta


def post(server: Any, content: Any, **headers: str) -> httpx.Response:
    sent = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **headers}
    return httpx.post(f"{server.api}/chat/completions", content=content, headers=sent)
