"""A streamed answer as server-sent events.

The first piece is waited for before the status is sent, so a request that the model refuses gets
a status that says so. What fails later becomes a last event with the error, and no ``[DONE]``.
One task reads the model's stream from beginning to end, since generators may hold time-outs and
task groups that must be left by the task that entered them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llmwright.core import Completion, Delta, FinishReason, TokenLogprob, UpstreamError, closing
from llmwright.gateway.errors import error_of
from llmwright.gateway.hangup import ClientGoneError, Shutdown, while_connected
from llmwright.gateway.wire import (
    DONE,
    compact_json,
    event,
    logprobs_body,
    source_bodies,
    usage_body,
)


class EventStream(Response):
    """Sends ``deltas`` as chunks; closes them when the client hangs up.

    With ``include_usage`` a chunk with the usage and no choice comes last, as OpenAI sends it.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        deltas: AsyncIterator[Delta],
        *,
        answer_id: str,
        created: int,
        model: str,
        include_usage: bool,
        request_id: str,
        shutdown: Shutdown,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._deltas = deltas
        self._model = model
        # Written once: it is the longer part of every chunk.
        frame = {
            "id": answer_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
        }
        self._frame = compact_json(frame).removesuffix("}")
        self._include_usage = include_usage
        self._request_id = request_id
        self._shutdown = shutdown
        self._started = False
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(receive, self._send_all(send), self._shutdown)
        except ClientGoneError:
            raise
        except Exception as error:
            if not self._started:
                raise  # a status can still tell it
            _, body, _ = error_of(error, self._request_id)
            last = event(compact_json(body))
            await send({"type": "http.response.body", "body": last, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        async with closing(self._events()) as events:
            async for chunk in events:
                if not self._started:
                    self._started = True
                    await send(
                        {
                            "type": "http.response.start",
                            "status": self.status_code,
                            "headers": self.raw_headers,
                        }
                    )
                await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _events(self) -> AsyncIterator[bytes]:
        role: dict[str, str] = {"role": "assistant"}
        completion: Completion | None = None
        told = 0  # tokens whose log-probabilities were sent
        async with closing(self._deltas) as deltas:
            async for delta in deltas:
                completion = delta.completion
                if delta.text or delta.top_logprobs:
                    told += len(delta.top_logprobs)
                    yield self._chunk({**role, "content": delta.text}, tokens=delta.top_logprobs)
                    role = {}
        if completion is None:
            raise UpstreamError("the answer broke off", where=self._model)
        untold = completion.top_logprobs[told:]
        if role or untold:  # an empty answer is an answer too
            yield self._chunk({**role, "content": ""}, tokens=untold)
        # Of several answers the first is streamed; the others follow whole.
        for index, other in enumerate(completion.alternatives, start=1):
            whole = {"role": "assistant", "content": other.text}
            yield self._chunk(whole, index=index, tokens=other.top_logprobs)
            yield self._chunk({}, index=index, finish_reason=other.finish_reason)
        yield self._chunk({}, finish_reason=completion.finish_reason, ended=completion)
        if self._include_usage:
            usage = compact_json(usage_body(completion.usage))
            yield event(f'{self._frame},"choices":[],"usage":{usage}}}')
        yield DONE

    def _chunk(
        self,
        delta: dict[str, str],
        *,
        index: int = 0,
        tokens: Sequence[TokenLogprob] = (),
        finish_reason: FinishReason | None = None,
        ended: Completion | None = None,
    ) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs_body(tokens),
            "finish_reason": finish_reason,
        }
        usage = ',"usage":null' if self._include_usage else ""
        sources = "" if ended is None else f',"sources":{compact_json(source_bodies(ended))}'
        return event(f'{self._frame},"choices":[{compact_json(choice)}]{usage}{sources}}}')
