"""The gateway: any `ChatModel` and `Embedder` behind the OpenAI interface.

| path | |
|---|---|
| ``POST /v1/chat/completions`` | whole, or streamed as server-sent events |
| ``POST /v1/embeddings`` | as numbers or base64 |
| ``GET /v1/models``, ``/v1/models/{id}`` | what is served |
| ``GET /healthz`` | without a key |

It knows nothing of engines, indexes or guards: they come as models. A client that hangs up frees
what worked for it, streamed or not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from llmwright.core import ChatModel, ConfigurationError, Embedder
from llmwright.gateway.catalog import health, list_models, one_model
from llmwright.gateway.chat import chat_completions
from llmwright.gateway.embedding import embeddings as embed
from llmwright.gateway.envelope import Envelope
from llmwright.gateway.errors import http_error
from llmwright.gateway.served import Served


def create_app(
    models: Mapping[str, ChatModel],
    *,
    embedders: Mapping[str, Embedder] | None = None,
    api_key: str = "",
) -> Starlette:
    """An ASGI application that serves ``models`` and ``embedders`` under their names.

    With ``api_key`` every path but ``/healthz`` asks for it. Embedders may need no threads of
    their own; they are called in one. The models stay the caller's: he opens and closes them.
    """
    if not models and not embedders:
        raise ConfigurationError("there is no model to serve", where="gateway", fix="give one")
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            Route("/v1/embeddings", embed, methods=["POST"]),
            Route("/v1/models", list_models, methods=["GET"]),
            Route("/v1/models/{name:path}", one_model, methods=["GET"]),
            Route("/healthz", health, methods=["GET"]),
        ],
        middleware=[Middleware(Envelope, api_key=api_key)],
        exception_handlers={HTTPException: http_error},
    )
    app.state.served = Served(
        models=dict(models),
        embedders=dict(embedders or {}),
        created=int(time.time()),
    )
    app.state.has_api_key = bool(api_key)
    return app
