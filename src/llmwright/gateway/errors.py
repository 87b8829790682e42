"""Every failure as one OpenAI error object, with the status by which clients decide to retry.

    {"error": {"message": ..., "type": ..., "param": ..., "code": ...}}

| what failed | status | type |
|---|---|---|
| the request: `ApiError`, other `LLMwrightError` | its own, 400 | invalid_request_error |
| a prompt too long: `ContextLengthError` | 400, not worth a retry | invalid_request_error |
| `CapacityError` | 429, with Retry-After | rate_limit_error |
| the server goes down | 503 | server_error |
| `UpstreamError` | 502 | upstream_error |
| anything else | 500, nothing told but the request's id | server_error |
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from llmwright.core import CapacityError, ContextLengthError, LLMwrightError, UpstreamError
from llmwright.gateway.hangup import ShutdownError

logger = logging.getLogger("llmwright.gateway")


class ApiError(Exception):
    """A request refused, in the words of the API."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers or {}


def error_of(error: Exception, request_id: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers for any exception; what nobody foresaw is logged here."""
    if isinstance(error, ApiError):
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        return error.status, _body(error.message, kind, error.param, error.code), error.headers
    if isinstance(error, ContextLengthError):
        body = _body(
            f"{error.message}.", "invalid_request_error", "messages", "context_length_exceeded"
        )
        return 400, body, {}
    if isinstance(error, CapacityError):
        body = _body(f"{error.message}.", "rate_limit_error", None, "capacity")
        return 429, body, {"retry-after": "1"}
    if isinstance(error, UpstreamError):
        logger.warning("request %s: %s", request_id, error)
        return 502, _body(f"{error.message}.", "upstream_error", None, "upstream"), {}
    if isinstance(error, ShutdownError):
        return 503, _body("The server is shutting down.", "server_error", None, "shutdown"), {}
    if isinstance(error, LLMwrightError):
        return 400, _body(f"{error.message}.", "invalid_request_error", None, None), {}
    logger.error("request %s failed", request_id, exc_info=error)
    message = f"The server failed; its log tells why under request {request_id}."
    return 500, _body(message, "server_error", None, "internal"), {}


def error_response(error: Exception, request_id: str) -> JSONResponse:
    """The answer to a request that failed before its answer began."""
    status, body, headers = error_of(error, request_id)
    return JSONResponse(body, status, headers)


async def http_error(request: Request, error: Exception) -> JSONResponse:
    """Starlette's own refusals (no such path, no such method) in the same form."""
    assert isinstance(error, HTTPException)  # it is registered for these alone
    phrase = HTTPStatus(error.status_code).phrase
    body = _body(
        f"{phrase}: {request.method} {request.url.path}", "invalid_request_error", None, None
    )
    return JSONResponse(body, error.status_code, error.headers)


def _body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
