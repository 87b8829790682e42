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
    InputError,
    SamplingParams,
)
from llmwright.inference.ragged import RaggedAttention
from llmwright.inference.request import Request, Token, send
from llmwright.inference.sampling import logprob_of, sample
from llmwright.modeling import Model


@dataclass(frozen=True, slots=True)
class Stats:
    """What the engine is doing: requests running and waiting, tokens generated so far."""

    running: int
    waiting: int
    generated_tokens: int


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
        self._waiting: deque[Request] = deque()
        self._running: list[Request] = []
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
        request = Request(self._model, token_ids, params or SamplingParams())
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
            send(self._safe_step())  # no name holds on to requests while it waits for more
        closed = RuntimeError("the generator was closed")
        with self._change:
            send([(request, closed) for request in (*self._running, *self._waiting)])
            self._running = []
            self._waiting.clear()

    def _safe_step(self) -> list[tuple[Request, Token | Exception]]:
        try:
            with torch.inference_mode():
                return self._step()
        except Exception as error:  # whatever broke the step, no reader may wait for ever
            broken, self._running = self._running, []
            return [(request, error) for request in broken]

    def _admit(self) -> bool:
        """Let go of cancelled requests, take in waiting ones; False when it is time to end."""
        self._running = [r for r in self._running if not r.cancelled]
        with self._change:
            self._change.wait_for(lambda: self._running or self._waiting or self._closing)
            while self._waiting and len(self._running) < self._max_batch:
                self._running.append(self._waiting.popleft())
            return not self._closing

    def _step(self) -> list[tuple[Request, Token | Exception]]:
        """One pass for all running requests; gives the tokens that it produced."""
        budget = self._prefill_chunk
        part: list[Request] = []
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
        places = attention.positions
        logits = self._model.decoder(tokens, places, attention, logits_at=ends[ready])
        logits = logits[0]  # [ready, vocab]
        attention.commit()
        if not ready:
            return []
        requests = [part[i] for i in ready]
        ids = logits.argmax(-1)  # [ready]
        for i, request in enumerate(requests):
            if request.generator is not None:
                ids[i] = sample(logits[i], request.params, request.generator)
        sent: list[tuple[Request, Token | Exception]] = []
        self._generated += len(requests)
        chosen = zip(requests, ids.tolist(), logprob_of(logits, ids).tolist(), strict=True)
        for request, token_id, logprob in chosen:
            try:
                sent.append((request, request.accept(token_id, logprob, self._eos)))
            except Exception as error:  # a token without text ends its own request, no other
                request.finished = True
                sent.append((request, error))
        for request in requests:
            if request.finished:
                request.cache.clear()  # its reader may take its time
        self._running = [request for request in self._running if not request.finished]
        return sent
