"""A chat model that answers from a function: for tests, and for wiring a program before its model.

It keeps every promise of ``ChatModel`` that a real model keeps: streaming in pieces, usage
counted, ``max_tokens`` and stop strings obeyed, a seat given to other tasks between pieces,
and a count of what runs, so that a test can see that an abandoned stream was let go. It knows
nothing of tokens: one word with the space after it stands for a token.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence

from llmwright.core import Completion, Delta, Message, SamplingParams, Usage, completed

_WORD = re.compile(r"\s*\S+\s*|\s+")


class ScriptedModel:
    """Answers ``reply(messages)``, piece by piece.

    ``piece`` splits an answer; the default splits after each word. What ``reply`` raises reaches
    the caller. ``calls`` holds the conversations asked for, in order; ``running`` counts answers
    begun and neither finished nor abandoned.

    >>> import asyncio
    >>> model = ScriptedModel(lambda messages: f"you said {messages[-1].content}")
    >>> asyncio.run(model.complete([Message("user", "hello")])).text
    'you said hello'
    """

    def __init__(
        self,
        reply: Callable[[Sequence[Message]], str],
        name: str = "scripted",
        piece: Callable[[str], list[str]] = _WORD.findall,
    ) -> None:
        self.name = name
        self.calls: list[tuple[Message, ...]] = []
        self.running = 0
        self._reply = reply
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
            full = self._reply(messages)
            cuts = [at for stop in params.stop if (at := full.find(stop)) >= 0]
            text = full[: min(cuts)] if cuts else full
            pieces = self._piece(text)
            shown = pieces[: params.max_tokens]
            for piece in shown:
                await asyncio.sleep(0)
                yield Delta(piece)
            await asyncio.sleep(0)
            yield Delta(
                "",
                Completion(
                    "".join(shown),
                    finish_reason="stop" if len(shown) == len(pieces) else "length",
                    usage=Usage(sum(len(self._piece(m.content)) for m in messages), len(shown)),
                ),
            )
        finally:
            self.running -= 1

    async def aclose(self) -> None:
        """Nothing to let go; here so that every model closes alike."""
