"""The cited answer: retrieve, arrange the context, prompt, generate, cite.

Retrieval-augmented generation (Lewis et al. 2020, arXiv 2005.11401) as a `ChatModel` around
another one. The last user message is the query; what was said before stays as history, the most
recent of it within a bound. Passages go in best first, whole, until the context is full, since
a model reads the beginning of a context best (Liu et al. 2023, arXiv 2307.03172).

Where retrieval finds nothing the answer is the ``no_answer`` sentence, without sources, and the
model is not asked: a model with nothing to read would answer from memory, uncited.

Costs one search (in a worker thread, so that other answers go on being written meanwhile), the
prompt's tokens, and microseconds a sentence for citations.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from llmwright.answering.citing import CitationStream
from llmwright.answering.context import MAX_CONTEXT, arrange
from llmwright.answering.support import THRESHOLD, Support
from llmwright.core import (
    ChatModel,
    Completion,
    ConfigurationError,
    Delta,
    Hit,
    InputError,
    Message,
    SamplingParams,
    closing,
)
from llmwright.prompting import CITED_SYSTEM, CITED_TEMPLATE, PromptTemplate, cited_messages

NO_ANSWER = "I found nothing about this in the documents."

Search = Callable[[str, int], Sequence[Hit]]


class CitedAnswerer:
    """Answers from what ``search(query, top)`` finds, with ``[n]`` for the n-th of
    ``completion.sources``. Is a `ChatModel`.

    ``search`` is called in worker threads, several at a time. ``max_context`` bounds the passages
    and ``max_history`` the earlier turns, both in the units of ``measure``: characters, unless it
    counts something else (``tokenizer.count``).
    ``threshold`` is the share of a sentence that a passage must hold to be cited for it.

    A system message of the caller is added below ``system``, which it cannot replace.
    ``token_ids`` and ``logprobs`` of a completion are the model's own: they do not hold the
    citations that were added here.
    """

    def __init__(
        self,
        model: ChatModel,
        search: Search,
        *,
        system: str = CITED_SYSTEM,
        template: PromptTemplate = CITED_TEMPLATE,
        top: int = 3,
        max_context: int = MAX_CONTEXT,
        max_history: int = 2000,
        measure: Callable[[str], int] = len,
        no_answer: str = NO_ANSWER,
        threshold: float = THRESHOLD,
    ) -> None:
        for name, value, least in (
            ("top", top, 1),
            ("max_context", max_context, 1),
            ("max_history", max_history, 0),
        ):
            if value < least:
                raise ConfigurationError(
                    f"{name} is {value}", where="cited answerer", fix=f"it must be at least {least}"
                )
        self.model = model
        self._search = search
        self._system = system
        self._template = template
        self._top = top
        self._max_context = max_context
        self._max_history = max_history
        self._measure = measure
        self._no_answer = no_answer
        self._threshold = threshold

    @property
    def name(self) -> str:
        return self.model.name

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        """The whole answer. Raises ``InputError`` where there is no question."""
        passages, prompt = await self._prepare(messages)
        if not passages:
            return Completion(self._no_answer)
        return self._cited(await self.model.complete(prompt, params), passages)

    def _cited(self, answer: Completion, passages: tuple[Hit, ...]) -> Completion:
        """A whole answer and its alternatives with their citations in order."""
        citations = self._citations(passages)
        text = citations.push(answer.text)
        text += citations.flush(finished=answer.finish_reason != "length")
        others = tuple(self._cited(other, passages) for other in answer.alternatives)
        return replace(answer, text=text, sources=passages, alternatives=others)

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncIterator[Delta]:
        """The same answer in pieces; the last holds the sources."""
        passages, prompt = await self._prepare(messages)
        if not passages:
            yield Delta(self._no_answer, Completion(self._no_answer))
            return
        citations = self._citations(passages)
        given: list[str] = []
        async with closing(self.model.stream(prompt, params)) as stream:
            async for delta in stream:
                text = citations.push(delta.text)
                if delta.completion is None:
                    if text:
                        given.append(text)
                        yield Delta(text)
                    continue
                cut = delta.completion.finish_reason == "length"
                text += citations.flush(finished=not cut)
                whole = "".join([*given, text])
                others = tuple(
                    self._cited(other, passages) for other in delta.completion.alternatives
                )
                yield Delta(
                    text,
                    replace(delta.completion, text=whole, sources=passages, alternatives=others),
                )

    async def _prepare(self, messages: Sequence[Message]) -> tuple[tuple[Hit, ...], list[Message]]:
        turns = [message for message in messages if message.role != "system"]
        if not turns or turns[-1].role != "user" or not turns[-1].content.strip():
            raise InputError(
                "the conversation does not end with a question",
                where="messages",
                fix="let the last message be the user's, and not empty",
            )
        question = turns[-1].content
        hits = await asyncio.to_thread(self._search, question, self._top)
        passages = arrange(hits[: self._top], self._max_context, self._measure)
        added = [message.content for message in messages if message.role == "system"]
        system = "\n\n".join([self._system, *added])
        history = self._recent(turns[:-1])
        return passages, cited_messages(question, passages, system, history, self._template)

    def _recent(self, turns: Sequence[Message]) -> list[Message]:
        """The latest turns that fit, from a user's on: chat templates want them alternating."""
        kept: list[Message] = []
        room = self._max_history
        for message in reversed(turns):
            room -= self._measure(message.content)
            if room < 0:
                break
            kept.insert(0, message)
        while kept and kept[0].role != "user":
            kept.pop(0)
        return kept

    def _citations(self, passages: Sequence[Hit]) -> CitationStream:
        support = Support(passages, self._threshold)
        return CitationStream(support.cite, len(passages))
