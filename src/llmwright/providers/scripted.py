"""A chat model that answers from a function: for tests, and for wiring a program before its model.

It keeps every promise of ``ChatModel`` that a real model keeps: streaming in pieces, usage
counted, ``max_tokens`` and stop strings obeyed, a seat given to other tasks between pieces,
several answers, and a count of what runs, so that a test can see that an abandoned stream was
let go. It knows nothing of tokens: one word with the space after it stands for a token, and it is
sure of each (log-probability 0).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

from llmwright.core import (
    Completion,
    Delta,
    Message,
    SamplingParams,
    TokenLogprob,
    Usage,
    completed,
)

_WORD = re.compile(r"\s*\S+\s*|\s+")


class ScriptedModel:
    """Answers ``answer(messages)``, piece by piece.

    ``piece`` splits an answer; the default splits after each word. Each of ``n`` answers calls
    ``answer`` again. What ``answer`` raises reaches the caller. ``calls`` holds the conversations
    asked for, in order; ``running`` counts answers begun and neither finished nor abandoned.

    >>> import asyncio
    >>> model = ScriptedModel(lambda messages: f"you said {messages[-1].content}")
    >>> asyncio.run(model.complete([Message("user", "hello")])).text
    'you said hello'
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Message]], str],
        name: str = "scripted",
        piece: Callable[[str], list[str]] = _WORD.findall,
    ) -> None:
        self.name = name
        self.calls: list[tuple[Message, ...]] = []
        self.running = 0
        self._answer = answer
        self._piece = piece

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        """The whole answer."""
        return await completed(self.stream(messages, params))

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncGenerator[Delta, None]:
        """The answer in pieces; other tasks run between them."""
        params = params or SamplingParams()
        self.calls.append(tuple(messages))
        self.running += 1
        try:
            first = self._completion(messages, params)
            for piece in self._piece(first.text):
                await asyncio.sleep(0)
                yield Delta(piece, top_logprobs=self._certain([piece], params))
            await asyncio.sleep(0)
            others = tuple(self._completion(messages, params) for _ in range(params.n - 1))
            said = sum(answer.usage.completion_tokens for answer in (first, *others))
            usage = Usage(first.usage.prompt_tokens, said)
            yield Delta("", replace(first, usage=usage, alternatives=others))
        finally:
            self.running -= 1

    def _completion(self, messages: Sequence[Message], params: SamplingParams) -> Completion:
        full = self._answer(messages)
        cuts = [at for stop in params.stop if (at := full.find(stop)) >= 0]
        pieces = self._piece(full[: min(cuts)] if cuts else full)
        shown = pieces[: params.max_tokens]
        return Completion(
            "".join(shown),
            finish_reason="stop" if len(shown) == len(pieces) else "length",
            usage=Usage(sum(len(self._piece(m.content)) for m in messages), len(shown)),
            top_logprobs=self._certain(shown, params),
        )

    def _certain(self, pieces: Sequence[str], params: SamplingParams) -> tuple[TokenLogprob, ...]:
        if params.logprobs is None:
            return ()
        told = [TokenLogprob(piece, 0.0, piece.encode()) for piece in pieces]
        return tuple(replace(t, top=(t,) if params.logprobs else ()) for t in told)

    async def aclose(self) -> None:
        """Nothing to let go; here so that every model closes alike."""
