"""``POST /v1/embeddings``: unit vectors as numbers or base64 (little-endian float32)."""

from __future__ import annotations

import asyncio
import base64
import json

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from llmwright.core import Embedder
from llmwright.gateway.errors import ApiError
from llmwright.gateway.hangup import while_connected
from llmwright.gateway.served import Served, read_request
from llmwright.gateway.wire import EmbeddingRequest


async def embeddings(request: Request) -> Response:
    """Embed a text or a list of texts. Computing and writing numbers happen in a thread."""
    asked = await read_request(request, EmbeddingRequest)
    served = Served.of(request)
    embedder = served.embedder(asked.model)
    if asked.dimensions not in (None, embedder.dimension):
        raise ApiError(
            400,
            f"The model gives {embedder.dimension} dimensions; leave 'dimensions' out.",
            param="dimensions",
            code="unsupported_parameter",
        )

    async def work() -> bytes:
        async with served.lock(asked.model):
            return await asyncio.to_thread(_embedded, embedder, asked)

    body = await while_connected(request.receive, work(), served.shutdown)
    return Response(body, media_type="application/json")


def _embedded(embedder: Embedder, asked: EmbeddingRequest) -> bytes:
    vectors = np.asarray(embedder.embed(asked.input, kind=asked.input_type), dtype="<f4")
    written: list[str] | list[list[float]]
    if asked.encoding_format == "base64":
        written = [base64.b64encode(vector.tobytes()).decode("ascii") for vector in vectors]
    else:
        written = vectors.tolist()
    tokens = _tokens(embedder, asked.input)
    return json.dumps(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(written)
            ],
            "model": asked.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        },
        allow_nan=False,
        separators=(",", ":"),
    ).encode()


def _tokens(embedder: Embedder, texts: list[str]) -> int:
    """Tokens read; 0 where the embedder has no ``count(text)`` to tell."""
    count = getattr(embedder, "count", None)
    return sum(map(count, texts)) if callable(count) else 0
