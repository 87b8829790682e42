"""What a gateway serves, and how a request finds it."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import Request

from llmwright.core import ChatModel, Embedder
from llmwright.gateway.errors import ApiError
from llmwright.gateway.hangup import Shutdown
from llmwright.gateway.wire import Asked, parse

T = TypeVar("T")

_MOST_BYTES = 4 << 20  # of a request's body
# Read and thrown away past the limit, so that a client in the middle of sending hears the answer
# instead of a reset connection.
_DRAINED = 16 << 20


@dataclass(frozen=True)
class Served:
    """The models by name. ``shutdown`` stops all that is being answered; ``locks`` lets one batch
    at a time into each embedder, which uses all processors by itself."""

    models: Mapping[str, ChatModel]
    embedders: Mapping[str, Embedder]
    created: int
    shutdown: Shutdown = field(default_factory=Shutdown)
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    @staticmethod
    def of(request: Request) -> Served:
        served: Served = request.app.state.served
        return served

    def chat_model(self, name: str | None) -> tuple[str, ChatModel]:
        """The model of that name; where one alone is served it need not be named."""
        if name is None:
            if len(self.models) != 1:
                offered = ", ".join(map(repr, self.models)) or "none"
                message = f"'model' is missing; this server has: {offered}."
                raise ApiError(400, message, param="model", code="model_missing")
            (name,) = self.models
        return name, _find(self.models, name, "chat model")

    def embedder(self, name: str) -> Embedder:
        return _find(self.embedders, name, "embedding model")

    def lock(self, name: str) -> asyncio.Lock:
        return self.locks.setdefault(name, asyncio.Lock())


def not_found(name: str, known: Mapping[str, object], kind: str) -> ApiError:
    """404 with the nearest name, or all there are."""
    near = difflib.get_close_matches(name, known, n=1)
    offered = ", ".join(map(repr, known)) or "none"
    hint = f"did you mean {near[0]!r}?" if near else f"this server has: {offered}."
    return ApiError(
        404, f"There is no {kind} {name!r}; {hint}", param="model", code="model_not_found"
    )


def _find(known: Mapping[str, T], name: str, kind: str) -> T:
    if name not in known:
        raise not_found(name, known, kind)
    return known[name]


async def read_request(request: Request, kind: type[Asked]) -> Asked:
    """The body, within its limit, as JSON of that kind. Raises `ApiError`.

    Only ``application/json`` is read: a web page can make its visitor's browser send forms and
    plain text to this machine, but not JSON without asking first.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise ApiError(
            415,
            f"The content type is {content_type or 'missing'}; send 'application/json'.",
            code="unsupported_media_type",
        )
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= _MOST_BYTES:
            parts.append(part)
        elif size > _MOST_BYTES + _DRAINED:
            break
    if size > _MOST_BYTES:
        raise ApiError(
            413,
            f"The body is larger than {_MOST_BYTES:,} bytes; send less.",
            code="request_too_large",
            headers={"connection": "close"},
        )
    return parse(kind, b"".join(parts))
