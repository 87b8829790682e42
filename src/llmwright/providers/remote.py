"""Any OpenAI-compatible endpoint as a chat model: vLLM, SGLang, llama.cpp, Ollama, OpenAI, our own.

Speaks ``POST {base_url}/chat/completions``, whole or as server-sent events. What can fail on the
way, and what happens then:

- no connection, no answer within ``timeout``, status 408, 429 or 5xx: tried again, at most
  ``retries`` times, after the server's ``Retry-After`` or else after a random part of
  ``backoff * 2**attempt`` seconds ("full jitter": many clients that failed together must not
  return together; Brooker, "Exponential Backoff And Jitter", AWS, 2015);
- a stream that has begun is never repeated: its reader has seen part of it, and it is paid for;
- everything else, and the last failure: ``UpstreamError`` with the server's own words.

The key travels in a header and is shown nowhere, not even where a server repeats it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import httpx

from llmwright.core import (
    Completion,
    ConfigurationError,
    Delta,
    FinishReason,
    Message,
    SamplingParams,
    UpstreamError,
    Usage,
)
from llmwright.providers.sse import event_data
from llmwright.providers.wire import (
    content_of,
    error_message,
    finish_reason,
    first_choice,
    retry_after,
    shorten,
    usage_of,
)

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 60.0  # seconds: a server that asks for more is reported, not waited for
_FIXES = {
    401: "check the API key",
    403: "check what the API key may do",
    404: "check the address and the name of the model",
    429: "ask for less at a time, or raise the limit",
}


class RemoteModel:
    """``model`` behind ``base_url`` (the part before ``/chat/completions``).

    ``timeout`` seconds bound one attempt at a whole answer, and in a stream the wait for each
    next piece. Usage is as the server counts it, zero where it does not say.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        timeout: float = 120.0,
        retries: int = 3,
        backoff: float = 0.5,
    ) -> None:
        try:
            url = httpx.URL(base_url.rstrip("/") + "/chat/completions")
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
        self.name = model
        self._url = url
        self._where = str(url.copy_with(userinfo=b"", query=None))
        self._api_key = api_key
        self._timeout = timeout
        self._retries = retries
        self._backoff = backoff
        self._client: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None

    def __repr__(self) -> str:
        return f"RemoteModel({self._where!r}, {self.name!r})"

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        """The whole answer. Raises ``UpstreamError``."""
        async with self._answered(self._body(messages, params, stream=False)) as response:
            payload = self._parse(response.content.decode("utf-8", errors="replace"))
        choice = first_choice(payload)
        if not isinstance(choice.get("message"), dict):
            raise self._error("the answer holds no choices[0].message")
        return Completion(content_of(choice["message"]), finish_reason(choice), usage_of(payload))

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncGenerator[Delta, None]:
        """The answer in pieces. Raises ``UpstreamError``, also when the stream breaks off."""
        texts: list[str] = []
        usage = Usage()
        reason: FinishReason | None = None
        async with self._answered(self._body(messages, params, stream=True)) as response:
            try:
                async for data in event_data(response.aiter_raw()):
                    if data.strip() == "[DONE]":
                        reason = reason or "stop"
                        break
                    payload = self._parse(data)
                    if payload.get("usage"):
                        usage = usage_of(payload)
                    choice = first_choice(payload)
                    if text := content_of(choice.get("delta")):
                        texts.append(text)
                        yield Delta(text)
                    if choice.get("finish_reason"):
                        reason = finish_reason(choice)
            except httpx.HTTPError as error:
                if reason is None:  # else only the end mark or the usage was lost
                    raise self._broken(texts, _in_words(error, self._timeout)) from error
        if reason is None:
            raise self._broken(texts, "it ended without a finish_reason")
        yield Delta("", Completion("".join(texts), reason, usage))

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None and self._client[0] is asyncio.get_running_loop():
            await self._client[1].aclose()
        self._client = None

    def _body(
        self, messages: Sequence[Message], params: SamplingParams | None, *, stream: bool
    ) -> dict[str, Any]:
        params = params or SamplingParams()
        # OpenAI's newer models refuse the older name, which everyone else understands.
        limit = "max_completion_tokens" if self._url.host == "api.openai.com" else "max_tokens"
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            limit: params.max_tokens,
            "temperature": params.temperature,
        }
        if params.top_p < 1.0:
            body["top_p"] = params.top_p
        if params.top_k:  # not OpenAI's, but of vLLM, SGLang, llama.cpp and Ollama
            body["top_k"] = params.top_k
        if params.stop:
            body["stop"] = list(params.stop)
        if params.seed is not None:
            body["seed"] = params.seed
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body

    @asynccontextmanager
    async def _answered(self, body: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        """A response with status 200; read whole unless a stream was asked for."""
        request = self._http().build_request("POST", self._url, json=body)
        attempt = 0
        while True:
            wait: float | None = None
            try:
                response = await self._send(request, stream=bool(body.get("stream")))
            except (httpx.TransportError, TimeoutError) as error:
                if attempt >= self._retries:
                    raise self._error(
                        _in_words(error, self._timeout) + _tries(attempt),
                        fix="check that the server runs and the address is right",
                    ) from error
            else:
                if response.status_code == 200:
                    break
                wait = retry_after(response)
                retried = response.status_code in _RETRIED and (wait or 0.0) <= _LONGEST_WAIT
                if attempt >= self._retries or not retried:
                    self._refuse(response, attempt)
            if wait is None:
                wait = random.random() * min(self._backoff * 2**attempt, _LONGEST_WAIT)
            await asyncio.sleep(wait)
            attempt += 1
        try:
            yield response
        finally:
            await response.aclose()

    async def _send(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        async with asyncio.timeout(self._timeout):  # a server may trickle, never ending
            response = await self._http().send(request, stream=True)
            if not stream or response.status_code != 200:
                try:
                    await response.aread()
                finally:
                    await response.aclose()
            return response

    def _http(self) -> httpx.AsyncClient:
        # Connections belong to the event loop they were opened in; a program may run several
        # loops one after another.
        loop = asyncio.get_running_loop()
        if self._client is None or self._client[0] is not loop:
            headers = {"Accept-Encoding": "identity"}
            if self._api_key:
                headers["Authorization"] = f"Bearer {self._api_key}"
            client = httpx.AsyncClient(
                headers=headers,
                # How many run at once is the caller's business: no queue hidden in here.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
                timeout=httpx.Timeout(self._timeout, connect=min(self._timeout, 10.0)),
                trust_env=self._url.host not in ("localhost", "127.0.0.1", "::1"),
            )
            self._client = (loop, client)
        return self._client[1]

    def _parse(self, text: str) -> dict[str, Any]:
        try:
            payload = json.loads(text)
        except json.JSONDecodeError as error:
            raise self._error(f"answered what is not JSON: {shorten(text)!r}") from error
        if not isinstance(payload, dict):
            raise self._error(f"answered what is not a JSON object: {shorten(text)!r}")
        if payload.get("error"):
            raise self._error(f"reported an error: {error_message(payload)}")
        return payload

    def _refuse(self, response: httpx.Response, attempt: int) -> NoReturn:
        try:
            said = error_message(response.json())
        except ValueError:
            said = shorten(response.text)
        status = response.status_code
        said = f"answered {status}" + (f", {said!r}" if said else "") + _tries(attempt)
        fallback = "try again later" if status >= 500 else "change the request"
        raise self._error(said, fix=_FIXES.get(status, fallback))

    def _broken(self, texts: list[str], why: str) -> UpstreamError:
        size = sum(map(len, texts))
        return self._error(f"the stream broke off after {size} characters: {why}", fix="ask again")

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


def _in_words(error: Exception, timeout: float) -> str:
    if isinstance(error, (TimeoutError, httpx.TimeoutException)):
        return f"no answer within {timeout:g} s"
    return f"{str(error) or type(error).__name__}"


def _tries(attempt: int) -> str:
    return f" (tried {attempt + 1} times)" if attempt else ""
