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
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from llmwright.core import (
    ChatModel,
    Completion,
    Delta,
    FinishReason,
    Hit,
    Message,
    SamplingParams,
    closing,
)
from llmwright.privacy import redact, restore, safe_length
from llmwright.safety.check import check_input, check_output, personal_data
from llmwright.safety.policy import Policy
from llmwright.safety.verdict import Finding, Verdict


@dataclass(frozen=True, slots=True)
class _Conversation:
    """A conversation as the model may see it. ``mapping`` puts its values back, ``own`` are the
    values the user gave, ``reserved`` is all its text."""

    messages: list[Message]
    mapping: Mapping[str, str]
    own: frozenset[str]
    reserved: str


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
        if isinstance(conversation, str):
            return Completion(conversation, finish_reason="content_filter")
        completion = await self.model.complete(conversation.messages, params)
        return self._guarded(completion, conversation)

    def _guarded(self, completion: Completion, conversation: _Conversation) -> Completion:
        """A whole answer and its alternatives, each judged by itself."""
        verdict = self._judge(completion.text, conversation, conversation.mapping)
        if not verdict.allowed:
            return self._withheld(completion, verdict.refusal, conversation)
        text = restore(verdict.text, conversation.mapping)
        return self._finished(completion, text, conversation)

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncIterator[Delta]:
        """The answer in pieces, each checked before it is let out."""
        conversation = self._admit(messages)
        if isinstance(conversation, str):
            yield Delta(conversation, Completion(conversation, finish_reason="content_filter"))
            return
        known = dict(conversation.mapping)  # grows by what the answer is found to hold
        shown = ""
        async with closing(self._segments(conversation.messages, params)) as segments:
            async for segment, completion in segments:
                verdict = self._judge(segment, conversation, known)
                ended = completion or Completion("")  # all there is of one that is ended midway
                if not verdict.allowed:
                    text = shown + verdict.refusal
                    yield Delta(verdict.refusal, self._withheld(ended, text, conversation))
                    return
                known.update(verdict.mapping)
                piece = restore(verdict.text, conversation.mapping)
                full = len(shown) + len(piece) > self.policy.max_output_characters
                if completion is not None or full:
                    finished = self._finished(ended, shown + piece, conversation)
                    yield Delta(finished.text[len(shown) :], finished)
                    return
                shown += piece
                if piece:
                    yield Delta(piece)

    async def _segments(
        self, messages: Sequence[Message], params: SamplingParams | None
    ) -> AsyncIterator[tuple[str, Completion | None]]:
        """The model's text in pieces that can be judged one by one; the last has its completion."""
        held = ""
        async with closing(self.model.stream(messages, params)) as stream:
            async for delta in stream:
                held += delta.text
                if delta.completion is not None:
                    yield held, delta.completion
                    return
                if ready := safe_length(held):
                    segment, held = held[:ready], held[ready:]
                    yield segment, None

    def _admit(self, messages: Sequence[Message]) -> _Conversation | str:
        """What the model may see, or the refusal."""
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
                    return verdict.refusal
                spans = personal_data(content, self.policy)
                own.update(content[span.start : span.end] for span in spans)
                mapping.update(verdict.mapping)
                content = verdict.text
            elif message.role != "system" and self.policy.pii_input == "redact":
                spans = personal_data(content, self.policy)
                redacted = redact(content, spans, known=mapping, reserved=reserved)
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
        if text != completion.text:
            # Token ids and log-probabilities would give away what the text no longer says.
            completion = replace(completion, text=text, token_ids=(), logprobs=(), top_logprobs=())
        return replace(
            completion,
            finish_reason=reason,
            sources=tuple(self._source(hit, conversation) for hit in completion.sources),
            alternatives=self._others(completion, conversation),
        )

    def _withheld(
        self, completion: Completion, text: str, conversation: _Conversation
    ) -> Completion:
        others = self._others(completion, conversation)
        return Completion(text, "content_filter", completion.usage, alternatives=others)

    def _others(
        self, completion: Completion, conversation: _Conversation
    ) -> tuple[Completion, ...]:
        return tuple(self._guarded(other, conversation) for other in completion.alternatives)

    def _source(self, hit: Hit, conversation: _Conversation) -> Hit:
        if self.policy.pii_output not in ("redact", "block"):
            return hit
        text = hit.chunk.text
        spans = personal_data(text, self.policy, conversation.own)
        if not spans:
            return hit
        return replace(hit, chunk=replace(hit.chunk, text=redact(text, spans).text))

    def _report(self, verdict: Verdict) -> None:
        if self._observe is not None and verdict.findings:
            self._observe(verdict)
