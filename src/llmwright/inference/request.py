"""One request to the generator: what it asks, how far it is, and the way back to its reader.

The worker's thread produces tokens, the readers wait in event loops; ``send`` is the one place
where something passes from the one to the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from llmwright.core import FinishReason, SamplingParams
from llmwright.inference.ragged import SequenceCache
from llmwright.inference.stopping import StopFilter
from llmwright.modeling import Model


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token and the text that became certain with it (often its own, but
    incomplete characters and possible beginnings of stop strings wait). The last token of an
    answer carries ``finish_reason``."""

    id: int
    logprob: float
    text: str
    finish_reason: FinishReason | None = None


class Request:
    """One answer in the making; the worker owns all but ``cancelled``."""

    def __init__(self, model: Model, token_ids: Sequence[int], params: SamplingParams) -> None:
        config = model.config
        self.pending = list(token_ids)  # tokens the model has not read yet
        self.params = params
        self.room = min(params.max_tokens, config.max_position_embeddings - len(token_ids))
        self.cache = SequenceCache(config.num_hidden_layers, config.max_position_embeddings)
        self.decoder = model.tokenizer.stream_decoder()
        self.filter = StopFilter(params.stop)
        self.generator: torch.Generator | None = None
        if params.temperature > 0:
            self.generator = torch.Generator()
            if params.seed is None:
                self.generator.seed()
            else:
                self.generator.manual_seed(params.seed % 2**64)
        self.produced = 0
        self.finished = False
        self.cancelled = False
        self.loop = asyncio.get_running_loop()
        self.tokens: asyncio.Queue[Token | Exception] = asyncio.Queue()

    def accept(self, token_id: int, logprob: float, eos: Collection[int]) -> Token:
        """Append a token, and see whether the answer ends with it."""
        self.pending.append(token_id)
        self.produced += 1
        text = ""
        reason: FinishReason | None = None
        if token_id in eos:
            reason = "stop"
        else:
            text, stopped = self.filter.push(self.decoder.push(token_id))
            if stopped:
                self.finished = True
                return Token(token_id, logprob, text, "stop")
            if self.produced == self.room:
                reason = "length"
        if reason is not None:  # nothing follows that could decide what was held back
            self.finished = True
            rest, stopped = self.filter.push(self.decoder.flush())
            text += rest + self.filter.flush()
            reason = "stop" if stopped else reason
        return Token(token_id, logprob, text, reason)


def send(sent: Sequence[tuple[Request, Token | Exception]]) -> None:
    """Wake the readers: one call into each event loop, whatever the number of requests."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Request, Token | Exception]]] = {}
    for request, item in sent:
        by_loop.setdefault(request.loop, []).append((request, item))
    for loop, items in by_loop.items():
        try:
            loop.call_soon_threadsafe(_put, items)
        except RuntimeError:  # the loop is closed: nobody reads any more
            for request, _ in items:
                request.cancelled = True


def _put(items: Sequence[tuple[Request, Token | Exception]]) -> None:
    for request, item in items:
        request.tokens.put_nowait(item)
