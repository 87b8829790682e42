"""A model on this machine as a chat model: its chat template around the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from llmwright.core import (
    Completion,
    Delta,
    DType,
    InputError,
    Message,
    SamplingParams,
    TokenLogprob,
    Usage,
    closing,
    completed,
)
from llmwright.inference import Engine, EngineOptions, Stats, Token
from llmwright.modeling import Model, load_model, merge_adapter


class LocalModel:
    """Answers conversations with ``model``; requests made at once are computed together.

    ``name`` is by default the model's source; ``options`` are those of ``Engine``. ``token_ids``
    of a completion hold every token generated, the one that ended it included, in step with
    ``logprobs``. Close it when done.
    """

    def __init__(
        self, model: Model, name: str | None = None, **options: Unpack[EngineOptions]
    ) -> None:
        self.name = model.source if name is None else name
        self.model = model
        self.engine = Engine(model, **options)
        self._adapter: str | None = None

    @classmethod
    def open(
        cls,
        source: str,
        *,
        adapter: Path | None = None,
        dtype: DType = "auto",
        packed: bool = False,
        name: str | None = None,
        **options: Unpack[EngineOptions],
    ) -> LocalModel:
        """Load a model by its source. A LoRA adapter is merged into its weights, or, where they
        stay ``packed`` as they lie in the file, computed beside them."""
        model = load_model(source, dtype=dtype, packed=packed)
        if adapter is None or not packed:
            if adapter is not None:
                merge_adapter(model.decoder, adapter)
            return cls(model, name, **options)
        opened = cls(model, name, **options)
        opened.engine.add_adapter(opened.name, adapter)
        opened._adapter = opened.name
        return opened

    def with_adapter(self, name: str, folder: Path) -> LocalModel:
        """The same model under a LoRA adapter: another name on the same weights, engine and
        cache, so that many adapters cost little more than one. Closing either closes both."""
        self.engine.add_adapter(name, folder)
        other = copy(self)
        other.name = other._adapter = name
        return other

    def __repr__(self) -> str:
        return f"LocalModel({self.name!r})"

    def stats(self) -> Stats:
        """Requests running and waiting, tokens generated so far, times and rates."""
        return self.engine.stats()

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        """The whole answer. Raises ``CapacityError`` where the prompt or the queue is too long."""
        return await completed(self.stream(messages, params))

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncGenerator[Delta, None]:
        """The answer in pieces. Raises like ``complete``, before the first piece. Of several
        answers the first is streamed, the others come with it at the end."""
        params = params or SamplingParams()
        prompt = self.model.tokenizer.encode_chat(messages)
        answers: list[list[Token]] = [[] for _ in range(params.n)]
        tokens = self.engine.stream_tokens(prompt, params, adapter=self._adapter)
        async with closing(tokens) as stream:
            async for token in stream:
                answers[token.answer].append(token)
                if token.answer == 0:
                    tops = self._tops([token], params)
                    if token.text or tops:
                        yield Delta(token.text, top_logprobs=tops)
        first, *others = (self._completion(tokens, len(prompt), params) for tokens in answers)
        usage = Usage(len(prompt), sum(map(len, answers)))
        yield Delta("", replace(first, usage=usage, alternatives=tuple(others)))

    def _completion(self, tokens: list[Token], prompt: int, params: SamplingParams) -> Completion:
        return Completion(
            "".join(token.text for token in tokens),
            tokens[-1].finish_reason or "length",
            Usage(prompt, len(tokens)),
            tuple(token.id for token in tokens),
            tuple(token.logprob for token in tokens),
            top_logprobs=self._tops(tokens, params),
        )

    def _tops(self, tokens: list[Token], params: SamplingParams) -> tuple[TokenLogprob, ...]:
        """What ``params.logprobs`` asks for; a token that only ended the answer has none."""
        if params.logprobs is None:
            return ()
        ends = {*self.model.tokenizer.eos_ids, *params.stop_token_ids}
        return tuple(
            self._named(
                token.id, token.logprob, tuple(self._named(i, logprob) for i, logprob in token.top)
            )
            for token in tokens
            if not (token.finish_reason == "stop" and token.id in ends)
        )

    def _named(
        self, token_id: int, logprob: float, top: tuple[TokenLogprob, ...] = ()
    ) -> TokenLogprob:
        try:
            raw = self.model.tokenizer.token_bytes(token_id, skip_special=False)
        except InputError:  # a place in the vocabulary without a token
            raw = b""
        return TokenLogprob(raw.decode(errors="replace"), logprob, raw, top)

    async def aclose(self) -> None:
        """Stop the engine; answers not finished end with an error."""
        await asyncio.to_thread(self.engine.close)
