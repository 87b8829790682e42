"""Any OpenAI-compatible endpoint as a chat model: vLLM, SGLang, llama.cpp, Ollama, OpenAI, our own.

Speaks ``POST {base_url}/chat/completions``, whole or as server-sent events. What fails on the way
is tried again by the rules of ``core.Endpoint``; a stream that has begun never is: its reader has
seen part of it, and it is paid for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from llmwright.core import (
    Completion,
    Delta,
    Endpoint,
    FinishReason,
    Message,
    SamplingParams,
    TokenLogprob,
    UpstreamError,
    Usage,
)
from llmwright.providers.sse import event_data
from llmwright.providers.wire import (
    choices_of,
    content_of,
    finish_reason,
    index_of,
    logprobs_of,
    sampling_body,
    usage_of,
)


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
        self.name = model
        self._endpoint = Endpoint(
            base_url,
            "/chat/completions",
            api_key,
            timeout=timeout,
            retries=retries,
            backoff=backoff,
        )
        self._client: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None

    def __repr__(self) -> str:
        return f"RemoteModel({self._endpoint.where!r}, {self.name!r})"

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        """The whole answer. Raises ``UpstreamError``."""
        async with self._answered(self._body(messages, params, stream=False)) as response:
            payload = self._endpoint.payload(response.content.decode("utf-8", errors="replace"))
        choices = choices_of(payload)
        if not choices or not isinstance(choices[0].get("message"), dict):
            raise self._endpoint.error("the answer holds no choices[0].message")
        first, *others = (
            _completion(content_of(c.get("message")), finish_reason(c), logprobs_of(c))
            for c in choices[: params.n if params else 1]
        )
        return replace(first, usage=usage_of(payload), alternatives=tuple(others))

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncGenerator[Delta, None]:
        """The answer in pieces. Raises ``UpstreamError``, also when the stream breaks off."""
        answers = [_Answer() for _ in range(params.n if params else 1)]
        first, usage = answers[0], Usage()
        async with self._answered(self._body(messages, params, stream=True)) as response:
            try:
                async for data in event_data(response.aiter_raw()):
                    if data.strip() == "[DONE]":
                        first.reason = first.reason or "stop"
                        break
                    payload = self._endpoint.payload(data)
                    if payload.get("usage"):
                        usage = usage_of(payload)
                    for choice in choices_of(payload):
                        if index_of(choice) >= len(answers):
                            continue
                        text, tokens = answers[index_of(choice)].add(choice)
                        if index_of(choice) == 0 and (text or tokens):
                            yield Delta(text, top_logprobs=tokens)
            except httpx.HTTPError as error:
                if first.reason is None:  # else only the end mark or the usage was lost
                    raise self._broken(first.texts, self._endpoint.in_words(error)) from error
        if first.reason is None:
            raise self._broken(first.texts, "it ended without a finish_reason")
        others = tuple(answer.completion() for answer in answers[1:] if answer.begun)
        yield Delta("", replace(first.completion(), usage=usage, alternatives=others))

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None and self._client[0] is asyncio.get_running_loop():
            await self._client[1].aclose()
        self._client = None

    def _body(
        self, messages: Sequence[Message], params: SamplingParams | None, *, stream: bool
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            **sampling_body(
                params or SamplingParams(),
                of_openai=self._endpoint.url.host == "api.openai.com",
            ),
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body

    @asynccontextmanager
    async def _answered(self, body: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        """A response with status 200; read whole unless a stream was asked for."""
        request = self._http().build_request("POST", self._endpoint.url, json=body)
        attempt = 0
        while True:
            try:
                response = await self._send(request, stream=bool(body.get("stream")))
            except (httpx.HTTPError, TimeoutError) as error:
                wait = self._endpoint.wait_after(error, attempt)
            else:
                if response.status_code == 200:
                    break
                wait = self._endpoint.wait_after(response, attempt)
            await asyncio.sleep(wait)
            attempt += 1
        try:
            yield response
        finally:
            await response.aclose()

    async def _send(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        async with asyncio.timeout(self._endpoint.timeout):  # a server may trickle, never ending
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
            client = httpx.AsyncClient(
                **self._endpoint.client_options(),
                # How many run at once is the caller's business: no queue hidden in here.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            )
            client.headers["Accept-Encoding"] = "identity"
            self._client = (loop, client)
        return self._client[1]

    def _broken(self, texts: list[str], why: str) -> UpstreamError:
        size = sum(map(len, texts))
        return self._endpoint.error(
            f"the stream broke off after {size} characters: {why}", "ask again"
        )


@dataclass
class _Answer:
    """One answer of a stream, as far as it came."""

    texts: list[str] = field(default_factory=list)
    tokens: list[TokenLogprob] = field(default_factory=list)
    reason: FinishReason | None = None
    begun: bool = False

    def add(self, choice: dict[str, Any]) -> tuple[str, tuple[TokenLogprob, ...]]:
        """Take in a piece; gives its text and its tokens."""
        self.begun = True
        text, tokens = content_of(choice.get("delta")), logprobs_of(choice)
        self.texts += [text] if text else []
        self.tokens += tokens
        if choice.get("finish_reason"):
            self.reason = finish_reason(choice)
        return text, tokens

    def completion(self) -> Completion:
        return _completion("".join(self.texts), self.reason or "stop", tuple(self.tokens))


def _completion(text: str, reason: FinishReason, tokens: tuple[TokenLogprob, ...]) -> Completion:
    logprobs = tuple(token.logprob for token in tokens)
    return Completion(text, reason, logprobs=logprobs, top_logprobs=tokens)
