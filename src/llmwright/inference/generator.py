"""Many answers at once from one model, on one thread, behind an asynchronous front.

Each step takes the next tokens of every running request (one token where it answers, a chunk of
its prompt where it is still reading), sends all of them through the decoder in one ragged pass,
and chooses one token for every request whose prompt is read. Requests join and leave between
steps: continuous batching (Yu et al., "Orca", OSDI 2022). Prompts are read in chunks, so that a
long one delays a step of the others by a bounded time (Agrawal et al., "Sarathi-Serve", 2024,
arXiv 2403.02310). Requests are admitted in the order they came.

The engine knows token ids, and of text only what stop strings need. It reads each weight once a
step, whatever the number of requests: that is why eight streams cost little more than one. The
caches cost 2 * layers * kv_heads * head_dim numbers a token, up to the context length for each
of ``max_batch`` requests.

Greedy answers are those of the plain loop "forward, argmax, append". Sampled ones draw from a
generator of their own. What other requests do can change the last bits of the logits (a matrix
product sums in another order for another number of rows), so an answer may part from itself only
where two tokens are equally likely within rounding.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from llmwright.core import (
    CapacityError,
    ContextLengthError,
    FinishReason,
    InputError,
    SamplingParams,
)
from llmwright.inference.ragged import RaggedAttention, SequenceCache
from llmwright.inference.sampling import logprob_of, sample
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


@dataclass(frozen=True, slots=True)
class Stats:
    """What the engine is doing: requests running and waiting, tokens generated so far."""

    running: int
    waiting: int
    generated_tokens: int


class _Request:
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


class Generator:
    """Generates from ``model``, at most ``max_batch`` requests in one pass.

    ``max_waiting`` more may wait; beyond both, requests are refused. ``prefill_chunk`` bounds the
    prompt tokens read in one step. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        model: Model,
        max_batch: int = 16,
        max_waiting: int = 1024,
        prefill_chunk: int = 256,
    ) -> None:
        self._model = model
        self._eos = frozenset(model.tokenizer.eos_ids)
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._prefill_chunk = prefill_chunk
        self._waiting: deque[_Request] = deque()
        self._running: list[_Request] = []
        self._generated = 0
        self._closing = False
        self._change = threading.Condition()  # guards _waiting and _closing
        self._worker = threading.Thread(target=self._work, name="llmwright-generator", daemon=True)
        self._worker.start()
        atexit.register(self.close)  # a daemon thread must not run into the interpreter's end

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stats(self) -> Stats:
        """Counts as of now."""
        return Stats(len(self._running), len(self._waiting), self._generated)

    def close(self) -> None:
        """Stop after the step under way; requests not finished end with an error."""
        with self._change:
            self._closing = True
            self._change.notify()
        self._worker.join()
        atexit.unregister(self.close)

    async def stream_tokens(
        self, token_ids: Sequence[int], params: SamplingParams | None = None
    ) -> AsyncGenerator[Token, None]:
        """Generate after ``token_ids``, one ``Token`` at a time.

        Ends after a token of the model's ``eos_ids`` or a stop string ("stop"), or when
        ``max_tokens`` or the context are used up ("length"). Leaving the iterator, or cancelling
        its task, frees the request at the next step. Raises ``CapacityError`` before the first
        token where the prompt or the queue is too long, and ``InputError`` for tokens the model
        does not have.
        """
        self._check(token_ids)
        request = _Request(self._model, token_ids, params or SamplingParams())
        with self._change:
            if self._closing:
                raise RuntimeError("the generator is closed")
            busy = len(self._running) + len(self._waiting)
            if busy >= self._max_batch + self._max_waiting:
                raise CapacityError(
                    f"{busy} requests run or wait already",
                    where=self._model.source,
                    fix="try again later, or raise max_waiting",
                )
            self._waiting.append(request)
            self._change.notify()
        try:
            while True:
                token = await request.tokens.get()
                if isinstance(token, Exception):
                    raise RuntimeError(f"generation failed: {token}") from token
                yield token
                if token.finish_reason is not None:
                    return
        finally:
            request.cancelled = True
            with self._change, suppress(ValueError):  # ValueError: it was admitted already
                self._waiting.remove(request)

    def _check(self, token_ids: Sequence[int]) -> None:
        config = self._model.config
        if not token_ids:
            raise InputError("the prompt is empty", fix="give at least one token")
        if len(token_ids) >= config.max_position_embeddings:
            raise ContextLengthError(
                f"the prompt has {len(token_ids)} tokens, and the model's context holds "
                f"{config.max_position_embeddings} with the answer",
                where=self._model.source,
                fix="shorten the prompt",
            )
        if not 0 <= min(token_ids) <= max(token_ids) < config.vocab_size:
            raise InputError(
                f"token ids must lie in 0 to {config.vocab_size - 1}",
                where=self._model.source,
                fix="encode the prompt with this model's tokenizer",
            )

    # -- the worker's side ------------------------------------------------------------------

    def _work(self) -> None:
        while self._admit():
            try:
                with torch.inference_mode():
                    sent = self._step()
            except Exception as error:  # whatever broke the step, no reader may wait for ever
                sent = [(request, error) for request in self._running]
                self._running = []
            self._send(sent)
        closed = RuntimeError("the generator was closed")
        self._send([(request, closed) for request in (*self._running, *self._waiting)])
        self._running = []
        self._waiting.clear()

    def _admit(self) -> bool:
        """Let go of cancelled requests, take in waiting ones; False when it is time to end."""
        self._running = [r for r in self._running if not r.cancelled]
        with self._change:
            self._change.wait_for(lambda: self._running or self._waiting or self._closing)
            while self._waiting and len(self._running) < self._max_batch:
                self._running.append(self._waiting.popleft())
            return not self._closing

    def _step(self) -> list[tuple[_Request, Token | Exception]]:
        """One pass for all running requests; gives the tokens that it produced."""
        budget = self._prefill_chunk
        part: list[_Request] = []
        counts: list[int] = []
        row: list[int] = []
        for request in self._running:
            count = len(request.pending)
            if not request.produced:  # still reading its prompt
                count = min(count, budget)
                budget -= count
            if count:
                part.append(request)
                counts.append(count)
                row += request.pending[:count]
                del request.pending[:count]
        ready = [i for i, request in enumerate(part) if not request.pending]
        device = self._model.decoder.device
        ends = torch.tensor(counts, device=device).cumsum(0) - 1  # each request's last new token
        tokens = torch.tensor([row], device=device)  # [1, time]
        attention = RaggedAttention([request.cache for request in part], counts, device)
        logits = self._model.decoder(tokens, attention.positions, attention, logits_at=ends[ready])[
            0
        ]  # [ready, vocab]
        attention.commit()
        if not ready:
            return []
        requests = [part[i] for i in ready]
        ids = logits.argmax(-1)  # [ready]
        for i, request in enumerate(requests):
            if request.generator is not None:
                ids[i] = sample(logits[i], request.params, request.generator)
        sent: list[tuple[_Request, Token | Exception]] = []
        chosen = zip(requests, ids.tolist(), logprob_of(logits, ids).tolist(), strict=True)
        for request, token_id, logprob in chosen:
            try:
                sent.append((request, self._accept(request, token_id, logprob)))
            except Exception as error:  # a token without text ends its own request, no other
                request.finished = True
                sent.append((request, error))
        self._running = [request for request in self._running if not request.finished]
        return sent

    def _accept(self, request: _Request, token_id: int, logprob: float) -> Token:
        """Append a token to its request, and see whether the answer ends with it."""
        request.pending.append(token_id)
        request.produced += 1
        self._generated += 1
        text = ""
        reason: FinishReason | None = None
        if token_id in self._eos:
            reason = "stop"
        else:
            text, stopped = request.filter.push(request.decoder.push(token_id))
            if stopped:
                request.finished = True
                return Token(token_id, logprob, text, "stop")
            if request.produced == request.room:
                reason = "length"
        if reason is not None:  # nothing follows that could decide what was held back
            request.finished = True
            rest, stopped = request.filter.push(request.decoder.flush())
            text += rest + request.filter.flush()
            reason = "stop" if stopped else reason
        return Token(token_id, logprob, text, reason)

    @staticmethod
    def _send(sent: Sequence[tuple[_Request, Token | Exception]]) -> None:
        """Wake the readers: one call into each event loop, whatever the number of requests."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Request, Token | Exception]]] = {}
        for request, item in sent:
            by_loop.setdefault(request.loop, []).append((request, item))
        for loop, items in by_loop.items():
            try:
                loop.call_soon_threadsafe(_deliver, items)
            except RuntimeError:  # the loop is closed: nobody reads any more
                for request, _ in items:
                    request.cancelled = True


def _deliver(items: Sequence[tuple[_Request, Token | Exception]]) -> None:
    for request, item in items:
        request.tokens.put_nowait(item)
