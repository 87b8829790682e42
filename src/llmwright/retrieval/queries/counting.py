"""A chat model that counts: how many answers were asked for, and how many tokens they took.

Expansion, reranking and iterated retrieval pay for each question in calls; wrapped in ``Counted``,
a model says what a search cost. It changes nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from threading import Lock

from llmwright.core import ChatModel, Completion, Delta, Message, SamplingParams, Usage, closing


class Counted:
    """A ``ChatModel`` around another. ``calls`` counts answers asked for, ``usage`` the tokens of
    those that came; both only grow, and may be read at any time."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self._lock = Lock()
        self.name = model.name
        self.calls = 0
        self.usage = Usage()

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        """The model's answer, counted."""
        self._add(1, Usage())
        completion = await self._model.complete(messages, params)
        self._add(0, completion.usage)
        return completion

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncIterator[Delta]:
        """The model's answer in pieces; its tokens count once it is whole."""
        self._add(1, Usage())
        async with closing(self._model.stream(messages, params)) as stream:
            async for delta in stream:
                if delta.completion is not None:
                    self._add(0, delta.completion.usage)
                yield delta

    def _add(self, calls: int, usage: Usage) -> None:
        with self._lock:
            self.calls += calls
            self.usage += usage
