"""The engine for programs: an asynchronous front, and one thread that does all the work.

Readers wait in event loops; the worker owns everything else. What passes between them is a list
of things to do (``_inbox``) one way and one call into each event loop a step the other way, so a
hundred streams cost a hundred queue entries and no lock. Leaving a stream cancels its request,
whose blocks are free again before the next pass. Beyond ``max_waiting`` requests are refused.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, TypedDict

from llmwright.core import (
    CapacityError,
    ContextLengthError,
    InputError,
    LLMwrightError,
    SamplingParams,
)
from llmwright.inference.decoding import (
    SamplingState,
    check_tokens,
    compile_grammar,
    search_for,
)
from llmwright.inference.engine.core import EngineCore, Sent
from llmwright.inference.engine.request import Request, SoftPrompt, Token
from llmwright.inference.engine.speculate import Speculator
from llmwright.inference.engine.stats import Stats
from llmwright.inference.native import KVDType
from llmwright.inference.runner import Runner
from llmwright.inference.runners import MemoryPlan, RunnerKind, make_runner
from llmwright.inference.speculation import NGramProposer, Proposer
from llmwright.modeling import Model, read_adapter


class EngineOptions(TypedDict, total=False):
    """What ``Engine`` takes beside the model, for those who pass it on."""

    max_sequences: int
    max_waiting: int
    token_budget: int
    cache_tokens: int | None
    block_size: int
    kv_dtype: KVDType
    prefix_caching: bool
    speculate: Literal["ngram"] | Proposer | None
    runner: RunnerKind | Runner


class _Reader:
    """The way back to one reader."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.items: asyncio.Queue[Token | Exception] = asyncio.Queue()


class Engine:
    """Generates from ``model``, up to ``max_sequences`` sequences in one pass.

    ``token_budget``: most tokens of one pass, so how long a prompt may delay the others.
    ``cache_tokens``: what the cache holds; by default as many tokens as all sequences could fill,
    but at most 1 GiB, and at least one context. ``memory`` says what all of it takes.
    ``speculate``: "ngram" drafts from the text itself and switches itself off where that does not
    pay; or a ``Proposer`` of your own. ``runner``: "native" (compiled kernels on a CPU), "torch"
    (any device), "auto" for the faster; or one of your own, whose cache then counts and of which
    ``memory`` says nothing. Close it, or use it as a context manager.

    Raises ``CapacityError`` where the cache does not fit into the memory that is free, and what
    ``make_runner`` raises.
    """

    def __init__(
        self,
        model: Model,
        *,
        max_sequences: int = 32,
        max_waiting: int = 1024,
        token_budget: int = 512,
        cache_tokens: int | None = None,
        block_size: int = 16,
        kv_dtype: KVDType = "auto",
        prefix_caching: bool = True,
        speculate: Literal["ngram"] | Proposer | None = None,
        runner: RunnerKind | Runner = "auto",
    ) -> None:
        self.model = model
        self.memory: MemoryPlan | None = None
        if isinstance(runner, str):
            runner, self.memory = make_runner(
                model,
                runner,
                cache_tokens=cache_tokens,
                max_sequences=max_sequences,
                token_budget=token_budget,
                block_size=block_size,
                kv_dtype=kv_dtype,
            )
        self._runner = runner
        if speculate == "ngram":
            speculate = NGramProposer()
        self._core = EngineCore(
            model,
            self._runner,
            max_sequences=max_sequences,
            token_budget=token_budget,
            prefix_caching=prefix_caching,
            speculator=None if speculate is None else Speculator(speculate),
        )
        self._max_waiting = max_waiting
        self._adapters: set[str] = set()
        self._readers: dict[Request, _Reader] = {}  # the worker's
        self._entering: dict[Request, _Reader] = {}
        self._inbox: list[Callable[[], None]] = []
        self._closing = False
        self._change = threading.Condition()  # guards the three before it
        self._worker = threading.Thread(target=self._work, name="llmwright-engine", daemon=True)
        self._worker.start()
        atexit.register(self.close)  # a daemon thread must not run into the interpreter's end

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stats(self) -> Stats:
        """Counts and times as of now."""
        stats = self._core.stats()
        return replace(stats, waiting=stats.waiting + len(self._entering))

    def close(self) -> None:
        """Stop after the pass under way; requests not finished end with an error."""
        with self._change:
            self._closing = True
            self._change.notify()
        self._worker.join()
        atexit.unregister(self.close)

    def add_adapter(self, name: str, folder: Path | str) -> None:
        """Make the LoRA adapter in ``folder`` available under ``name``, in place of what had that
        name; requests choose it one by one. Raises ``ModelSourceError`` and ``InputError`` as
        ``read_adapter`` does.
        """
        adapter = read_adapter(folder, self.model.decoder)
        if name in self._adapters:
            self.remove_adapter(name)
        self._call(partial(self._runner.add_adapter, name, adapter))
        self._adapters.add(name)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; requests that use it end with an error. Raises ``InputError`` where
        there is none."""
        self._check_adapter(name)
        self._adapters.remove(name)

        def remove() -> None:
            self._send(self._core.fail(InputError(f"the adapter {name!r} was removed"), name))
            self._runner.remove_adapter(name)
            self._core.manager.forget()

        self._call(remove)

    async def stream_tokens(
        self,
        token_ids: Sequence[int],
        params: SamplingParams | None = None,
        *,
        adapter: str | None = None,
        soft_prompt: SoftPrompt | None = None,
        priority: int = 0,
        tenant: Hashable = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[Token, None]:
        """Generate after ``token_ids``, one ``Token`` at a time; ends when all ``params.n``
        answers are finished.

        An answer ends after a token of the model's ``eos_ids`` or a stop string ("stop"), or when
        ``max_tokens`` or the context are used up ("length"). Best-of and beam answers come whole,
        the best first. Leaving the iterator, or cancelling its task, frees the request at
        once. Raises ``CapacityError`` before the first token where prompt or queue are too
        long, later where ``timeout`` seconds are over, and ``InputError`` for tokens the
        model does not have.
        """
        params = params or SamplingParams()
        self._check(token_ids, soft_prompt)
        check_tokens(params, self.model.config.vocab_size)
        if params.structured:  # compiled apart: the first time takes a second
            await asyncio.to_thread(compile_grammar, self.model.tokenizer, params)
        prompt = len(token_ids) + len(soft_prompt or ())
        room = min(params.max_tokens, self.model.config.max_position_embeddings - prompt)
        request = Request(
            token_ids,
            params,
            limit=prompt + room,
            adapter=adapter,
            soft_prompt=soft_prompt,
            priority=priority,
            tenant=tenant,
            length_matters=self.model.decoder.model.rotary.depends_on_length,
            search=search_for(SamplingState(params, token_ids, self.model.tokenizer), room),
        )
        self._core.check(request)
        reader = _Reader()
        deadline = None if timeout is None else reader.loop.time() + timeout
        with self._change:
            if self._closing:
                raise RuntimeError("the engine is closed")
            waiting = len(self._core.scheduler.waiting) + len(self._entering)
            if waiting >= self._max_waiting:
                raise CapacityError(
                    f"{waiting} requests wait already",
                    where=self.model.source,
                    fix="try again later, or raise max_waiting",
                )
            self._entering[request] = reader
            self._change.notify()
        left = params.n
        try:
            while left:
                try:
                    async with asyncio.timeout_at(deadline):
                        item = await reader.items.get()
                except TimeoutError as error:
                    raise CapacityError(
                        f"the answer was not finished within {timeout:g} seconds",
                        where=self.model.source,
                        fix="allow more time, or ask for fewer tokens",
                    ) from error
                if isinstance(item, LLMwrightError):
                    raise item
                if isinstance(item, Exception):
                    raise RuntimeError(f"generation failed: {item}") from item
                yield item
                left -= item.finish_reason is not None
        finally:
            if left:
                with self._change:
                    if self._entering.pop(request, None) is None:
                        self._inbox.append(lambda: self._cancel(request))
                        self._change.notify()

    # -- before a request is let in ------------------------------------------------------------

    def _check(self, token_ids: Sequence[int], soft_prompt: SoftPrompt | None) -> None:
        config, where = self.model.config, self.model.source
        if not token_ids:
            raise InputError("the prompt is empty", fix="give at least one token")
        length = len(token_ids) + len(soft_prompt or ())
        if length >= config.max_position_embeddings:
            raise ContextLengthError(
                f"the prompt has {length} tokens, and the model's context holds "
                f"{config.max_position_embeddings} with the answer",
                where=where,
                fix="shorten the prompt",
            )
        if not 0 <= min(token_ids) <= max(token_ids) < config.vocab_size:
            raise InputError(
                f"token ids must lie in 0 to {config.vocab_size - 1}",
                where=where,
                fix="encode the prompt with this model's tokenizer",
            )
        if soft_prompt is not None and soft_prompt.vectors.shape[1] != config.hidden_size:
            raise InputError(
                f"the soft prompt {soft_prompt.name!r} has vectors of "
                f"{soft_prompt.vectors.shape[1]} numbers, and the model's have "
                f"{config.hidden_size}",
                where=where,
                fix="use one that was trained for this model",
            )

    def _check_adapter(self, name: str) -> None:
        if name not in self._adapters:
            known = ", ".join(sorted(self._adapters)) or "none"
            raise InputError(
                f"there is no adapter {name!r}",
                where=self.model.source,
                fix=f"use one of: {known}",
            )

    # -- the worker's side ---------------------------------------------------------------------

    def _work(self) -> None:
        while self._take_in():
            try:
                sent = self._core.step()
            except Exception as error:  # whatever broke the pass, no reader may wait for ever
                sent = self._core.fail(error)
            self._send(sent)
        closed = RuntimeError("the engine was closed")
        with self._change:
            self._readers |= self._entering
            self._entering = {}
        self._send([(request, closed) for request in self._readers])

    def _take_in(self) -> bool:
        """Do what was asked for since the last pass; False when it is time to end."""
        with self._change:
            self._change.wait_for(
                lambda: self._entering or self._inbox or self._closing or self._core.busy
            )
            if self._closing:
                return False
            entering, self._entering = self._entering, {}
            inbox, self._inbox = self._inbox, []
        for request, reader in entering.items():
            self._add(request, reader)
        for task in inbox:
            task()
        return True

    def _call(self, task: Callable[[], None]) -> None:
        """Let the worker do something between two passes, and wait until it is done."""
        done: Future[None] = Future()

        def run() -> None:
            try:
                task()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        with self._change:
            if self._closing:
                raise RuntimeError("the engine is closed")
            self._inbox.append(run)
            self._change.notify()
        done.result()

    def _add(self, request: Request, reader: _Reader) -> None:
        self._readers[request] = reader
        try:
            if request.adapter is not None:
                self._check_adapter(request.adapter)  # here it cannot be removed meanwhile
            self._core.add(request)
        except Exception as error:
            self._send([(request, error)])

    def _cancel(self, request: Request) -> None:
        self._readers.pop(request, None)
        self._core.cancel(request)

    def _send(self, sent: Sent) -> None:
        """Wake the readers: one call into each event loop, whatever the number of requests."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Reader, Token | Exception]]] = {}
        for request, item in sent:
            reader = self._readers.get(request)
            if reader is not None:
                by_loop.setdefault(reader.loop, []).append((reader, item))
        for loop, items in by_loop.items():
            try:
                loop.call_soon_threadsafe(_put, items)
            except RuntimeError:  # the loop is closed: nobody reads any more
                gone = {id(reader) for reader, _ in items}
                for request in [r for r, reader in self._readers.items() if id(reader) in gone]:
                    self._cancel(request)
        for request in {request for request, _ in sent}:
            if not request.sequences:
                self._readers.pop(request, None)


def _put(items: Sequence[tuple[_Reader, Token | Exception]]) -> None:
    for reader, item in items:
        reader.items.put_nowait(item)
