"""A plain cascade as a chat model: the small model answers, and the large one where it doubts.

    answer = small's   where confidence(log-probabilities of its tokens) >= threshold
             large's   elsewhere
    cost   = small + P(deferred) * large

Any two ``ChatModel``s will do, of which the small one must report log-probabilities. The confidence
is their mean, or the least of them (``inference.speculation``; Gupta et al., "Language Model
Cascades: Token-level uncertainty and beyond", 2024, arXiv 2404.10136). The reader waits until the
small model has finished, since only then it is known whose answer it gets; a cascade by tokens,
which does not wait, is ``inference.speculation.cascade_generate``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from llmwright.core import (
    ChatModel,
    Completion,
    Delta,
    Message,
    SamplingParams,
    closing,
    completed,
)
from llmwright.inference.speculation import Confidence, mean_confidence


class CascadeModel:
    """``small`` in front of ``large``. Who opened the two closes them.

    ``threshold`` is a log-probability (0 defers everything but certainty). ``deferred`` counts
    the answers that the large model gave.
    """

    def __init__(
        self,
        small: ChatModel,
        large: ChatModel,
        threshold: float,
        confidence: Confidence = mean_confidence,
        name: str | None = None,
    ) -> None:
        self.name = f"{small.name} or {large.name}" if name is None else name
        self.small = small
        self.large = large
        self.threshold = threshold
        self.confidence = confidence
        self.deferred = 0

    def __repr__(self) -> str:
        return f"CascadeModel({self.name!r})"

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        """The whole answer; its usage counts both models. Raises ``InputError`` where the small
        model's answer has no log-probabilities, and what the models raise."""
        return await completed(self.stream(messages, params))

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncGenerator[Delta, None]:
        """The answer in pieces: the small model's in one, the large model's as they come."""
        first = await self.small.complete(messages, params)
        if self.confidence(first.logprobs) >= self.threshold:
            yield Delta(first.text, first)
            return
        self.deferred += 1
        async with closing(self.large.stream(messages, params)) as pieces:
            async for delta in pieces:
                if delta.completion is not None:
                    usage = first.usage + delta.completion.usage
                    delta = replace(delta, completion=replace(delta.completion, usage=usage))
                yield delta
