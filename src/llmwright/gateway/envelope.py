"""Around every request: an id, the key, and an answer whatever happens.

The id is the client's ``x-request-id`` if it is fit for a log line, a new one otherwise; it comes
back in the answer's headers and stands in the log. The key is asked for before anything else is
read, compared in constant time, and never logged.
"""

from __future__ import annotations

import hmac
import re
import secrets

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmwright.gateway.errors import ApiError, error_response, logger
from llmwright.gateway.hangup import ClientGoneError

_FIT = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Envelope:
    """ASGI middleware. Without ``api_key`` everyone is let in: see `serve`, which then binds to
    this machine alone."""

    def __init__(self, app: ASGIApp, api_key: str = "") -> None:
        self._app = app
        self._api_key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if _FIT.fullmatch(asked) else f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                named = (b"x-request-id", request_id.encode())
                message = {**message, "headers": [*message["headers"], named]}
            await send(message)

        try:
            if scope["path"] != "/healthz":
                self._check_key(headers)
            await self._app(scope, receive, send_with_id)
        except (ClientGoneError, ClientDisconnect):
            logger.info("request %s: the client hung up", request_id)
        except Exception as error:
            if started:  # too late to tell the client but by breaking off
                raise
            await error_response(error, request_id)(scope, receive, send_with_id)

    def _check_key(self, headers: Headers) -> None:
        if not self._api_key:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip().encode() if scheme.lower() == "bearer" else b""
        if not hmac.compare_digest(given, self._api_key):
            raise ApiError(
                401,
                "The API key is missing or wrong; send it as 'Authorization: Bearer KEY'.",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
