"""``GET /v1/models``, ``GET /v1/models/{id}`` and ``GET /healthz``."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from llmwright.gateway.served import Served, not_found


async def list_models(request: Request) -> JSONResponse:
    """All models and embedders, by name."""
    served = Served.of(request)
    entries = [_entry(name, served.created) for name in _names(served)]
    return JSONResponse({"object": "list", "data": entries})


async def one_model(request: Request) -> JSONResponse:
    """One of them; names may hold slashes."""
    served = Served.of(request)
    name = request.path_params["name"]
    names = _names(served)
    if name not in names:
        raise not_found(name, names, "model")
    return JSONResponse(_entry(name, served.created))


async def health(request: Request) -> JSONResponse:
    """That the server answers. Needs no key, so it tells nothing else."""
    return JSONResponse({"status": "ok"})


def _names(served: Served) -> dict[str, None]:
    return dict.fromkeys([*served.models, *served.embedders])


def _entry(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "llmwright"}
