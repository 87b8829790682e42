"""``POST /v1/chat/completions``: whole or streamed."""

from __future__ import annotations

import time
import uuid

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from llmwright.gateway.hangup import while_connected
from llmwright.gateway.served import Served, read_request
from llmwright.gateway.streaming import EventStream
from llmwright.gateway.wire import ChatRequest, completion_body


async def chat_completions(request: Request) -> Response:
    """Answer a conversation. What the client leaves open is as `SamplingParams` has it."""
    asked = await read_request(request, ChatRequest)
    served = Served.of(request)
    name, model = served.chat_model(asked.model)
    asked.check()
    messages = asked.conversation()
    params = asked.sampling()
    answer_id = f"chatcmpl-{uuid.uuid4().hex}"
    created = int(time.time())
    if asked.stream:
        return EventStream(
            model.stream(messages, params),
            answer_id=answer_id,
            created=created,
            model=name,
            include_usage=asked.stream_options is not None and asked.stream_options.include_usage,
            request_id=request.state.request_id,
            shutdown=served.shutdown,
        )
    work = model.complete(messages, params)
    completion = await while_connected(request.receive, work, served.shutdown)
    return JSONResponse(completion_body(answer_id, created, name, completion))
