"""A model on this machine as a chat model: its chat template around the batching generator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Literal

from llmwright.core import Completion, Delta, Message, SamplingParams, Usage, completed
from llmwright.inference import Generator, Stats, Token
from llmwright.modeling import Model, load_model, merge_adapter

DType = Literal["auto", "float32", "bfloat16"]


class LocalModel:
    """Answers conversations with ``model``; requests made at once are computed together.

    ``name`` is by default the model's source. ``max_batch`` and ``max_waiting`` are those of
    ``Generator``. ``token_ids`` of a completion hold every token generated, the one that ended
    it included, in step with ``logprobs``. Close it when done.
    """

    def __init__(
        self,
        model: Model,
        name: str | None = None,
        *,
        max_batch: int = 16,
        max_waiting: int = 1024,
    ) -> None:
        self.name = model.source if name is None else name
        self.model = model
        self._generator = Generator(model, max_batch=max_batch, max_waiting=max_waiting)

    @classmethod
    def open(
        cls,
        source: str,
        *,
        adapter: Path | None = None,
        dtype: DType = "auto",
        name: str | None = None,
    ) -> LocalModel:
        """Load a model by its source, and merge a LoRA adapter into its weights if one is given."""
        model = load_model(source, dtype=dtype)
        if adapter is not None:
            merge_adapter(model.decoder, adapter)
        return cls(model, name)

    def __repr__(self) -> str:
        return f"LocalModel({self.name!r})"

    def stats(self) -> Stats:
        """Requests running and waiting, tokens generated so far."""
        return self._generator.stats()

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        """The whole answer. Raises ``CapacityError`` where the prompt or the queue is too long."""
        return await completed(self.stream(messages, params))

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncGenerator[Delta, None]:
        """The answer in pieces. Raises like ``complete``, before the first piece."""
        prompt = self.model.tokenizer.encode_chat(messages)
        tokens: list[Token] = []
        # Closed here and now, not when the garbage collector comes by: a reader that leaves
        # must free its place in the engine.
        async with aclosing(self._generator.stream_tokens(prompt, params)) as stream:
            async for token in stream:
                tokens.append(token)
                if token.text:
                    yield Delta(token.text)
        yield Delta(
            "",
            Completion(
                "".join(token.text for token in tokens),
                tokens[-1].finish_reason or "length",
                Usage(len(prompt), len(tokens)),
                tuple(token.id for token in tokens),
                tuple(token.logprob for token in tokens),
            ),
        )

    async def aclose(self) -> None:
        """Stop the engine; answers not finished end with an error."""
        await asyncio.to_thread(self._generator.close)
