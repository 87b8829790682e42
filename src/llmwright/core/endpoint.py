"""Endpoints that speak OpenAI's protocol: their names, the key's way to them, and their failures.

Chat models (``providers``) and embedders (``embeddings``) ask such endpoints in different ways, one
awaiting and one not; what must not differ between them stands here:

- **The key** is read from ``OPENAI_API_KEY`` and goes to ``OPENAI_BASE_URL`` alone (by default
  OpenAI itself). A source that spells out another address gets no key: a recipe from elsewhere
  must not be able to carry it away. It is shown nowhere, not even where a server repeats it.
- **What passes is tried again**: no connection, no answer in time, status 408, 429 or 5xx, at most
  ``retries`` times. The wait is the server's ``Retry-After``, or else a random part of ``backoff *
  2**attempt`` seconds ("full jitter": many clients that failed together must not return together;
  Brooker, "Exponential Backoff And Jitter", AWS, 2015).
- **Everything else, and the last failure**, is an ``UpstreamError`` with the server's own words.
"""

from __future__ import annotations

import json
import os
import random
import time
from typing import TYPE_CHECKING, Any

from llmwright.core.errors import ConfigurationError, ModelSourceError, UpstreamError

if TYPE_CHECKING:
    import httpx

_OPENAI = "https://api.openai.com/v1"
_LONGEST_WAIT = 60.0  # seconds: a server that asks for more is reported, not waited for
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_FIXES = {
    401: "check the API key",
    403: "check what the API key may do",
    404: "check the address and the name of the model",
    429: "ask for less at a time, or raise the limit",
}


def is_endpoint(source: str) -> bool:
    """Whether a source names a model behind an endpoint, and not one on this machine."""
    return source.startswith(("http://", "https://", "openai:"))


def endpoint_of(source: str) -> tuple[str, str, str | None]:
    """The address, the model's name and the key behind ``openai:NAME`` or ``http(s)://host/v1#NAME``.

    Raises ``ModelSourceError`` where the name is missing, ``ConfigurationError`` where OpenAI
    would be asked without a key.
    """
    key = os.environ.get("OPENAI_API_KEY") or None
    home = (os.environ.get("OPENAI_BASE_URL") or _OPENAI).rstrip("/")
    if source.startswith("openai:"):
        name = source.removeprefix("openai:")
        if not name:
            raise ModelSourceError(
                "the model's name is missing", where=source, fix="write openai:NAME"
            )
        if key is None and home == _OPENAI:
            raise ConfigurationError(
                "there is no API key", where=source, fix="set OPENAI_API_KEY, or OPENAI_BASE_URL"
            )
        return home, name, key
    address, _, name = source.partition("#")
    if not name:
        raise ModelSourceError(
            "the address does not say which model", where=source, fix=f"write {address}#MODEL"
        )
    mine = address.rstrip("/") == home
    return address, name, key if mine else None


class Endpoint:
    """``base_url`` with ``path`` after it. ``timeout`` in seconds is that of one attempt.

    ``url`` is what to ask, ``where`` the same without a password in it, to be shown.
    Raises ``ConfigurationError`` where address or key cannot be one.
    """

    def __init__(
        self,
        base_url: str,
        path: str,
        api_key: str | None,
        *,
        timeout: float,
        retries: int,
        backoff: float,
    ) -> None:
        import httpx

        try:
            url = httpx.URL(base_url.rstrip("/") + path)
        except httpx.InvalidURL as error:
            raise _bad_address(base_url) from error
        if url.scheme not in ("http", "https") or not url.host:
            raise _bad_address(base_url)
        api_key = (api_key or "").strip()
        if not (api_key.isascii() and api_key.isprintable()):
            raise ConfigurationError(
                "the API key holds characters that no header may carry",
                where=url.host,
                fix="copy it again, as one line of ASCII",
            )
        self.url = url
        self.where = str(url.copy_with(userinfo=b"", query=None))
        self.timeout = timeout
        self._api_key = api_key
        self._retries = retries
        self._backoff = backoff

    def client_options(self) -> dict[str, Any]:
        """How the client of this endpoint is made, ``httpx.Client`` or ``httpx.AsyncClient``."""
        import httpx

        return {
            "headers": {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {},
            "timeout": httpx.Timeout(self.timeout, connect=min(self.timeout, 10.0)),
            # A proxy of the environment does not stand between this machine and itself.
            "trust_env": self.url.host not in ("localhost", "127.0.0.1", "::1"),
        }

    def wait_after(self, failure: httpx.Response | Exception, attempt: int) -> float:
        """Seconds to wait before the next attempt, when number ``attempt`` (from 0) ended so.

        Raises ``UpstreamError`` where there is to be none.
        """
        import httpx

        asked = None
        if isinstance(failure, httpx.Response):
            passes = failure.status_code in _RETRIED
            asked = retry_after(failure.headers.get("Retry-After", ""))
        else:
            passes = isinstance(failure, (httpx.TransportError, TimeoutError))
        if attempt < self._retries and passes and (asked or 0.0) <= _LONGEST_WAIT:
            jitter = random.random() * min(self._backoff * 2**attempt, _LONGEST_WAIT)
            return jitter if asked is None else asked
        tries = f" (tried {attempt + 1} times)" if attempt else ""
        if isinstance(failure, httpx.Response):
            raise self._refusal(failure, tries)
        raise self.error(
            self.in_words(failure) + tries, "check that the server runs and the address is right"
        ) from failure

    def _refusal(self, response: httpx.Response, tries: str) -> UpstreamError:
        status = response.status_code
        try:
            said = self._shown(_message(response.json()))
        except ValueError:
            said = self._shown(response.text)
        fix = _FIXES.get(status, "try again later" if status >= 500 else "change the request")
        if status == 401 and not self._api_key:
            fix = (
                "no key was sent: set OPENAI_API_KEY, and OPENAI_BASE_URL to the address it is for"
            )
        return self.error(f"answered {status}" + (f", {said!r}" if said else "") + tries, fix)

    def payload(self, text: str) -> dict[str, Any]:
        """The JSON object in a body. Raises ``UpstreamError`` for anything else, and for an error
        told in one."""
        try:
            payload = json.loads(text)
        except ValueError as broken:
            raise self.error(f"answered what is not JSON: {self._shown(text)!r}") from broken
        if not isinstance(payload, dict):
            raise self.error(f"answered what is not a JSON object: {self._shown(text)!r}")
        if payload.get("error"):
            raise self.error(f"reported an error: {self._shown(_message(payload))}")
        return payload

    def in_words(self, error: Exception) -> str:
        """What an exception of the connection means to the user."""
        import httpx

        if isinstance(error, (TimeoutError, httpx.TimeoutException)):
            return f"no answer within {self.timeout:g} s"
        return str(error) or type(error).__name__

    def _shown(self, text: str) -> str:
        """The server's words as an error may quote them: short, and without the key."""
        text = text.replace(self._api_key, "***") if self._api_key else text
        return text if len(text) <= 200 else text[:200] + "..."

    def error(
        self, what: str, fix: str = "check that it speaks OpenAI's protocol"
    ) -> UpstreamError:
        """An ``UpstreamError`` of this endpoint that does not show the key."""
        if self._api_key:
            what = what.replace(self._api_key, "***")
        return UpstreamError(what, where=self.where, fix=fix)


def _message(payload: Any) -> str:
    """The sentence in an error body, in OpenAI's form or in one of its neighbours'."""
    error = payload.get("error", payload) if isinstance(payload, dict) else payload
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or json.dumps(error)
    return str(error)


def retry_after(value: str) -> float | None:
    """Seconds to wait by a ``Retry-After`` header, a number or a date; None where it is neither."""
    from email.utils import mktime_tz, parsedate_tz

    value = value.strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        moment = parsedate_tz(value)
    try:
        return max(0.0, mktime_tz(moment) - time.time()) if moment else None
    except (ValueError, OverflowError):  # a thirteenth month, the year 99999
        return None


def _bad_address(base_url: str) -> ConfigurationError:
    return ConfigurationError(
        f"{base_url!r} is not the address of an endpoint",
        where="base_url",
        fix="give something like http://localhost:8000/v1",
    )
