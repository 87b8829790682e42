"""The cited answer: retrieve, arrange the context, prompt, generate, cite.

Retrieval-augmented generation (Lewis et al. 2020, arXiv 2005.11401) as a `ChatModel` around
another one. The last user message is the query; what was said before stays as history, the most
recent of it within a bound. Which passages go in, and how, `context` decides.

Where retrieval finds nothing, or nothing that ``answerable`` takes for an answer, the answer is the
``no_answer`` sentence, without sources, and the model is not asked: a model with nothing to read
would answer from memory, uncited.

Costs one search (in a worker thread, so that other answers go on being written meanwhile), the
prompt's tokens, and microseconds a sentence for citations.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace

from llmwright.answering.citing import CitationStream
from llmwright.answering.context import ContextSettings, build_context
from llmwright.answering.passages import Passage
from llmwright.answering.support import Support
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
from llmwright.prompting import CITED_SYSTEM, cited_messages

NO_ANSWER = "I found nothing about this in the documents."


@dataclass(frozen=True)
class CitedAnswerer:
    """Answers from what ``search(query, top)`` finds, with ``[n]`` for the n-th of
    ``completion.sources``. Is a `ChatModel`.

    ``search`` is called in worker threads, several at a time, and so is ``answerable``, which is
    given the question and the hits and says whether they may hold its answer (`answerable`, or
    any rule of yours). ``context`` says how passages are arranged; ``max_history`` bounds the
    earlier turns, in characters. Raises ``ConfigurationError`` for a bound out of its range.

    A system message of the caller is added below ``system``, which it cannot replace.
    ``token_ids`` and ``logprobs`` of a completion are the model's own: they do not hold the
    citations that were added here.
    """

    model: ChatModel
    search: Callable[[str, int], Sequence[Hit]]
    _: KW_ONLY
    system: str = CITED_SYSTEM
    top: int = 3
    context: ContextSettings = field(default_factory=ContextSettings)
    answerable: Callable[[str, Sequence[Hit]], bool] | None = None
    max_history: int = 2000
    no_answer: str = NO_ANSWER

    def __post_init__(self) -> None:
        for name, least in (("top", 1), ("max_history", 0)):
            if (value := getattr(self, name)) < least:
                raise ConfigurationError(
                    f"{name} is {value}", where="cited answerer", fix=f"it must be at least {least}"
                )

    @property
    def name(self) -> str:
        return self.model.name

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        """The whole answer. Raises ``InputError`` where there is no question."""
        passages, prompt = await self._prepare(messages)
        if not passages:
            return Completion(self.no_answer)
        answer = await self.model.complete(prompt, params)
        return _cited(answer, passages, Support([passage.shown for passage in passages]))

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncIterator[Delta]:
        """The same answer in pieces; the last holds the sources."""
        passages, prompt = await self._prepare(messages)
        if not passages:
            yield Delta(self.no_answer, Completion(self.no_answer))
            return
        support = Support([passage.shown for passage in passages])
        citations = CitationStream(support.cite, len(passages))
        given = 0  # characters of the answer that are out
        async with closing(self.model.stream(prompt, params)) as stream:
            async for delta in stream:
                if delta.completion is not None:
                    whole = _cited(delta.completion, passages, support)
                    yield Delta(whole.text[given:], whole)
                elif text := citations.push(delta.text):
                    given += len(text)
                    yield Delta(text)

    async def _prepare(
        self, messages: Sequence[Message]
    ) -> tuple[tuple[Passage, ...], list[Message]]:
        turns = [message for message in messages if message.role != "system"]
        if not turns or turns[-1].role != "user" or not turns[-1].content.strip():
            raise InputError(
                "the conversation does not end with a question",
                where="messages",
                fix="let the last message be the user's, and not empty",
            )
        question = turns[-1].content
        passages = await asyncio.to_thread(self._find, question)
        added = [message.content for message in messages if message.role == "system"]
        system = "\n\n".join([self.system, *added])
        history = self._recent(turns[:-1])
        shown = [passage.shown for passage in passages]
        return passages, cited_messages(question, shown, system, history)

    def _find(self, question: str) -> tuple[Passage, ...]:
        hits = self.search(question, self.top)[: self.top]
        if self.answerable is not None and not self.answerable(question, hits):
            return ()
        return build_context(question, hits, self.context)

    def _recent(self, turns: Sequence[Message]) -> list[Message]:
        """The latest turns that fit, from a user's on: chat templates want them alternating."""
        kept: list[Message] = []
        room = self.max_history
        for message in reversed(turns):
            room -= len(message.content)
            if room < 0:
                break
            kept.insert(0, message)
        while kept and kept[0].role != "user":
            kept.pop(0)
        return kept


def _cited(answer: Completion, passages: tuple[Passage, ...], support: Support) -> Completion:
    """A whole answer and its alternatives with their citations in order."""
    citations = CitationStream(support.cite, len(passages))
    text = citations.push(answer.text)
    text += citations.flush(finished=answer.finish_reason != "length")
    others = tuple(_cited(other, passages, support) for other in answer.alternatives)
    sources = tuple(passage.hit for passage in passages)
    return replace(answer, text=text, sources=sources, alternatives=others)
