"""A chat model wrapped in a policy: checks what goes in, checks what comes out, streaming too.

Every user turn is checked; one that may not pass ends the call with the policy's message and
finish reason ``content_filter``, and the model is not asked. With ``pii_input = "redact"`` the
model sees placeholders in all turns but the system's, the same for the same value, and the user
gets his own values back in the answer. Personal data in the answer or its sources that the user
did not give becomes a placeholder that stays.

A stream is held back just so far that no personal data and no placeholder can be let out in part
(``privacy.safe_length``: mostly two words). The pieces add up to what ``complete`` would have
given, but for an answer blocked midway (``pii_output = "block"``), which ends with the message
after the sound part that was already out.

The system's turns and the sources are not checked for injection: the first are the operator's,
and the second are what a prompt must quote so that they cannot be taken for instructions.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast

from llmwright.core import (
    ChatModel,
    Completion,
    Delta,
    FinishReason,
    Hit,
    Message,
    SamplingParams,
)
from llmwright.privacy import Span, find_pii, redact, restore, safe_length
from llmwright.safety.check import check_input, check_output
from llmwright.safety.policy import Policy
from llmwright.safety.verdict import Finding, Verdict


@dataclass(frozen=True, slots=True)
class _Conversation:
    """A conversation as the model may see it. ``mapping`` puts its values back, ``own`` are the
    values the user gave, ``reserved`` is all its text. ``refusal`` ends the call."""

    messages: list[Message]
    mapping: Mapping[str, str]
    own: frozenset[str]
    reserved: str
    refusal: str = ""


class GuardedModel:
    """``model`` behind ``policy``. ``observe`` is called with every verdict that found
    something: the place to count and log (a verdict's ``as_dict`` holds no redacted value)."""

    def __init__(
        self,
        model: ChatModel,
        policy: Policy | None = None,
        *,
        observe: Callable[[Verdict], None] | None = None,
    ) -> None:
        self.model = model
        self.policy = policy or Policy()
        self._observe = observe
        # The cap is for the answer the user sees, with his values back in: applied here, last.
        self._uncapped = self.policy.model_copy(update={"max_output_characters": sys.maxsize})

    @property
    def name(self) -> str:
        return self.model.name

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        """The whole answer, or the policy's message."""
        conversation = self._admit(messages)
        if conversation.refusal:
            return Completion(conversation.refusal, finish_reason="content_filter")
        completion = await self.model.complete(conversation.messages, params)
        return self._guarded(completion, conversation)

    def _guarded(self, completion: Completion, conversation: _Conversation) -> Completion:
        """A whole answer and its alternatives, each judged by itself."""
        others = self._others(completion, conversation)
        verdict = self._judge(completion.text, conversation, conversation.mapping)
        if not verdict.allowed:
            return replace(_withheld(verdict.refusal, completion), alternatives=others)
        text = restore(verdict.text, conversation.mapping)
        return replace(self._finished(completion, text, conversation), alternatives=others)

    def _others(
        self, completion: Completion, conversation: _Conversation
    ) -> tuple[Completion, ...]:
        return tuple(self._guarded(other, conversation) for other in completion.alternatives)

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncIterator[Delta]:
        """The answer in pieces, each checked before it is let out."""
        conversation = self._admit(messages)
        if conversation.refusal:
            refused = Completion(conversation.refusal, finish_reason="content_filter")
            yield Delta(conversation.refusal, refused)
            return
        known = dict(conversation.mapping)  # grows by what the answer is found to hold
        shown = ""
        async with aclosing(self._segments(conversation.messages, params)) as segments:
            async for segment, completion in segments:
                verdict = self._judge(segment, conversation, known)
                others = self._others(completion or Completion(""), conversation)
                if not verdict.allowed:
                    withheld = _withheld(shown + verdict.refusal, completion or Completion(""))
                    yield Delta(verdict.refusal, replace(withheld, alternatives=others))
                    return
                known.update(verdict.mapping)
                piece = restore(verdict.text, conversation.mapping)
                full = len(shown) + len(piece) > self.policy.max_output_characters
                if completion is not None or full:
                    finished = self._finished(
                        completion or Completion(""), shown + piece, conversation
                    )
                    told = replace(finished, alternatives=others)
                    yield Delta(finished.text[len(shown) :], told)
                    return
                shown += piece
                if piece:
                    yield Delta(piece)

    async def _segments(
        self, messages: Sequence[Message], params: SamplingParams | None
    ) -> AsyncGenerator[tuple[str, Completion | None], None]:
        """The model's text in pieces that can be judged one by one; the last has its completion."""
        held = ""
        upstream = cast("AsyncGenerator[Delta, None]", self.model.stream(messages, params))
        async with aclosing(upstream):  # so that whoever stops reading stops the model
            async for delta in upstream:
                held += delta.text
                if delta.completion is not None:
                    yield held, delta.completion
                    return
                ready = safe_length(held) if delta.text else 0
                if ready:
                    segment, held = held[:ready], held[ready:]
                    yield segment, None

    def _admit(self, messages: Sequence[Message]) -> _Conversation:
        reserved = "\n".join(message.content for message in messages)
        mapping: dict[str, str] = {}
        own: set[str] = set()
        admitted: list[Message] = []
        for message in messages:
            content = message.content
            if message.role == "user":
                verdict = check_input(content, self.policy, known=mapping, reserved=reserved)
                self._report(verdict)
                if not verdict.allowed:
                    return _Conversation([], {}, frozenset(), "", verdict.refusal)
                if self.policy.pii_output != "off":
                    own.update(content[span.start : span.end] for span in self._spans(content))
                mapping.update(verdict.mapping)
                content = verdict.text
            elif message.role != "system" and self.policy.pii_input == "redact":
                redacted = redact(content, self._spans(content), known=mapping, reserved=reserved)
                mapping.update(redacted.mapping)
                content = redacted.text
            admitted.append(Message(message.role, content))
        return _Conversation(admitted, mapping, frozenset(own), reserved)

    def _judge(self, text: str, conversation: _Conversation, known: Mapping[str, str]) -> Verdict:
        verdict = check_output(
            text,
            self._uncapped,
            own=conversation.own,
            known=known,
            reserved=conversation.reserved,
        )
        self._report(verdict)
        return verdict

    def _finished(
        self, completion: Completion, text: str, conversation: _Conversation
    ) -> Completion:
        """The completion with the text the user may see, cut where it is too long."""
        most = self.policy.max_output_characters
        reason: FinishReason = completion.finish_reason
        if len(text) > most:
            found = Finding("length", most, len(text), f"cut after {most} characters", 0.5)
            self._report(Verdict(True, text[:most], (found,)))
            text, reason = text[:most], "length"
        sources = tuple(self._source(hit, conversation) for hit in completion.sources)
        if text == completion.text:
            return replace(completion, finish_reason=reason, sources=sources)
        # Token ids and log-probabilities would give away what the text no longer says.
        return Completion(text, finish_reason=reason, usage=completion.usage, sources=sources)

    def _source(self, hit: Hit, conversation: _Conversation) -> Hit:
        if self.policy.pii_output not in ("redact", "block"):
            return hit
        text = hit.chunk.text
        spans = [s for s in self._spans(text) if text[s.start : s.end] not in conversation.own]
        if not spans:
            return hit
        return replace(hit, chunk=replace(hit.chunk, text=redact(text, spans).text))

    def _spans(self, text: str) -> list[Span]:
        return find_pii(text, self.policy.pii_kinds, regions=self.policy.phone_regions)

    def _report(self, verdict: Verdict) -> None:
        if self._observe is not None and verdict.findings:
            self._observe(verdict)


def _withheld(text: str, completion: Completion) -> Completion:
    return Completion(text, finish_reason="content_filter", usage=completion.usage)
