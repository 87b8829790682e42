"""The engine without threads: requests in, one pass at a time, tokens out.

    schedule -> copy shared blocks -> one forward pass -> choose tokens -> hand them out

Everything about order and room is the scheduler's, everything about memory the block manager's,
everything about numbers the runner's; this file moves what one gives to the next. It knows token
ids, and of text only what stop strings need.

Drafts (speculative decoding) are checked in the same pass that would have computed one token. A
drafted token that was certain to be proposed is kept where the ordinary draw chooses it: that
is the rule of ``speculation.verify`` for a one-hot q, and it consumes the same random numbers
as no speculation at all, so a seeded answer does not depend on whether anything was drafted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from llmwright.core import CapacityError
from llmwright.inference.blocks import BlockManager
from llmwright.inference.decoding import (
    Choice,
    Hypothesis,
    SamplingState,
    choose,
    distribution,
    rank_answers,
    record,
    states_along,
)
from llmwright.inference.engine.batching import build_step
from llmwright.inference.engine.request import AnswerText, Request, Sequence, Token
from llmwright.inference.engine.scheduler import Scheduler
from llmwright.inference.engine.speculate import Speculator
from llmwright.inference.engine.stats import Stats, Times
from llmwright.inference.runner import Runner
from llmwright.inference.speculation import Draft, verify
from llmwright.modeling import Model

Sent = list[tuple[Request, Token | Exception]]

_RECENT = 1024  # requests and tokens that the times are taken over


class EngineCore:
    """Answers requests on ``runner``, whose cache is all the memory it uses beside the weights."""

    def __init__(
        self,
        model: Model,
        runner: Runner,
        *,
        max_sequences: int,
        token_budget: int,
        prefix_caching: bool = True,
        speculator: Speculator | None = None,
    ) -> None:
        self._model = model
        self._runner = runner
        self.manager = BlockManager(runner.blocks, runner.block_size, prefix_caching=prefix_caching)
        self.scheduler = Scheduler(
            self.manager, max_sequences=max_sequences, token_budget=token_budget
        )
        self._max_sequences = max_sequences
        self._speculator = speculator
        self._count = Stats()
        self._first: deque[float] = deque(maxlen=_RECENT)  # seconds to first tokens
        self._between: deque[float] = deque(maxlen=_RECENT)  # and from one to the next

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.scheduler.running or self.scheduler.waiting)

    def check(self, request: Request) -> None:
        """Raise ``CapacityError`` for what would not fit were it alone."""
        if request.branches > self._max_sequences:
            raise CapacityError(
                f"{request.branches} answers or beams at once, and the engine runs "
                f"{self._max_sequences} sequences",
                where=self._model.source,
                fix="ask for fewer, or raise max_sequences",
            )
        blocks = request.branches * self.manager.blocks_for(request.limit)
        if blocks > self.manager.blocks:
            raise CapacityError(
                f"{request.branches} x {request.limit} tokens need {blocks} cache blocks of "
                f"{self.manager.block_size}, and there are {self.manager.blocks}",
                where=self._model.source,
                fix="ask for fewer tokens or answers, or give the cache more memory",
            )

    def add(self, request: Request) -> None:
        """Let a request wait for its turn; see ``check``."""
        sequence = Sequence(
            request, list(request.prompt), self._state(request, 0), self._text(request)
        )
        request.sequences = [sequence]
        self.scheduler.add(request)

    def cancel(self, request: Request) -> None:
        """Forget a request at once, its blocks too. Unknown and finished ones are fine."""
        if request in self.scheduler.running or request in self.scheduler.waiting:
            self._remove(request)
            self._count.cancelled += 1

    def fail(self, error: Exception, adapter: str | None = None) -> Sent:
        """End with ``error`` everything that runs, after a pass that broke, or everything,
        waiting or running, that uses an adapter."""
        if adapter is None:
            ended = list(self.scheduler.running)
        else:
            both = (*self.scheduler.running, *self.scheduler.waiting)
            ended = [request for request in both if request.adapter == adapter]
        for request in ended:
            self._remove(request)
        return [(request, error) for request in ended]

    def stats(self) -> Stats:
        """Counts and times as of now."""
        return replace(
            self._count,
            running=len(self.scheduler.running),
            waiting=len(self.scheduler.waiting),
            preemptions=self.scheduler.preemptions,
            draft_cost=0.0 if self._speculator is None else self._speculator.cost.of_draft(1),
            blocks=self.manager.blocks,
            blocks_free=self.manager.free,
            time_to_first_token=Times.over(tuple(self._first)),
            time_between_tokens=Times.over(tuple(self._between)),
        )

    @torch.inference_mode()
    def step(self) -> Sent:
        """One pass; gives the tokens that came of it."""
        if self._speculator is not None:
            self._speculator.propose(self.scheduler.running)
        batch = self.scheduler.schedule()
        if not batch.rows:
            return []
        began = time.perf_counter()
        answering = all(sequence.pending == 1 for sequence, _ in batch.rows)
        self._count.steps += 1
        if batch.copies:
            self._runner.copy_blocks(batch.copies)
        step, counts = build_step(batch.rows, self.manager.block_size)
        output = self._runner.forward(step)
        ready: list[tuple[Sequence, int]] = []
        searches: dict[Request, None] = {}
        after = 0
        for i, (sequence, new) in enumerate(batch.rows):
            row, after = after, after + counts[i]
            sequence.computed += new - max(counts[i] - 1, 0)  # drafts count when they are kept
            request = sequence.request
            if request.search is not None:
                if output.hidden is not None:
                    hidden = output.hidden[step.starts[i] : step.starts[i + 1]]
                    sequence.hidden = hidden[-1].clone()
                    if not request.started:
                        request.prompt_hidden.append(hidden.clone())
                if counts[i]:
                    sequence.logits = output.logits[row]
                    searches[request] = None
            elif counts[i]:
                ready.append((sequence, row))
            self.manager.register(sequence.table, sequence.tokens, sequence.computed)
        sent: Sent = []
        self._sample(output.logits, ready, sent)
        for request in searches:
            self._search(request, sent)
        if self._speculator is not None and answering:
            self._speculator.cost.add(len(step.token_ids), time.perf_counter() - began)
        return sent

    # -- choosing ------------------------------------------------------------------------

    def _sample(self, logits: Tensor, ready: list[tuple[Sequence, int]], sent: Sent) -> None:
        """Choose the next token of each sequence, and go on along its drafts while the choices
        equal them. ``ready`` says which row of logits [rows, vocab] is the first of each; those
        of its drafts follow."""
        rows = []
        drafted = []
        for sequence, row in self._with_forks(ready):
            if sequence.draft is not None:
                drafted.append((sequence, sequence.computed))
            if sequence.draft is None or sequence.draft.probabilities is None:
                rows.append((sequence, row, 0))
            else:
                self._verify(sequence, sequence.draft, logits[row:], sent)
        while rows:
            at = [row + place for _, row, place in rows]
            some = logits if at == [*range(len(logits))] else logits[at]  # no copy of the usual
            choices = choose(some, [sequence.state for sequence, _, _ in rows])
            kept = []
            for (sequence, row, place), choice in zip(rows, choices, strict=True):
                self._accept(sequence, choice, sent)
                if sequence.draft is None or sequence.finish_reason is not None:
                    continue
                if sequence.draft.tokens[place : place + 1] == (choice.token,):
                    sequence.computed += 1
                    kept.append((sequence, row, place + 1))
            rows = kept
        for sequence, before in drafted:
            self._settle(sequence, sequence.computed - before)

    def _with_forks(self, ready: list[tuple[Sequence, int]]) -> Iterator[tuple[Sequence, int]]:
        """``ready``, and where a prompt was read for several answers, one sequence for each."""
        for sequence, row in ready:
            yield sequence, row
            request = sequence.request
            if request.started:
                continue
            request.started = True
            for answer in range(1, request.params.sequences):
                fork = Sequence(
                    request,
                    list(sequence.tokens),
                    self._state(request, answer),
                    self._text(request),
                    answer,
                    self.manager.fork(sequence.table),
                    sequence.computed,
                )
                request.sequences.append(fork)
                yield fork, row

    def _verify(self, sequence: Sequence, draft: Draft, logits: Tensor, sent: Sent) -> None:
        """Check drafts that were drawn from a distribution of their own; the first rows of logits
        are theirs."""
        logits = logits[: len(draft.tokens) + 1]
        p = distribution(logits, states_along(sequence.state, draft.tokens))
        tokens, _ = verify(p, draft, sequence.state.generator)
        for place, token in enumerate(tokens):
            self._accept(sequence, record(logits[place], token, sequence.state), sent)
            if sequence.finish_reason is not None:
                break
            if draft.tokens[place : place + 1] == (token,):
                sequence.computed += 1

    def _settle(self, sequence: Sequence, accepted: int) -> None:
        """After drafts: cut the cache back to what was kept."""
        drafted = len(sequence.draft.tokens) if sequence.draft else 0
        sequence.draft = None
        self._count.drafted_tokens += drafted
        self._count.accepted_drafts += accepted
        if self._speculator is not None:
            self._speculator.settle(sequence, drafted, accepted)
        if sequence.finish_reason is None:
            self.manager.truncate(sequence.table, sequence.computed)

    def _accept(self, sequence: Sequence, choice: Choice, sent: Sent) -> None:
        """Append a chosen token; it goes to the reader now, or waits where answers are ranked."""
        request = sequence.request
        if sequence not in request.sequences:
            return  # another of its answers broke a moment ago
        try:
            sequence.state.advance(choice.token)
            token = sequence.accept(choice.token, choice.logprob, choice.top)
        except Exception as error:  # a token without text ends its own request, no other
            self._remove(request)
            sequence.finish_reason = "stop"
            sent.append((request, error))
            return
        self._note_token(request)
        sequence.chosen.append(token)
        if not request.ranked:
            sent.append((request, token))
        if sequence.finish_reason is not None:
            self._retire(sequence)
            if not request.sequences:
                self._complete(request, sent)

    def _note_token(self, request: Request) -> None:
        now = time.monotonic()
        if request.last_token is None:
            self._first.append(now - request.created)
            self._count.prompt_tokens += len(request.prompt)
            self._count.cached_tokens += request.cached_tokens
        else:
            self._between.append(now - request.last_token)
        request.last_token = now
        self._count.generated_tokens += 1

    def _retire(self, sequence: Sequence) -> None:
        """Free a sequence that goes no further."""
        request = sequence.request
        self.manager.release(sequence.table)
        request.sequences.remove(sequence)
        request.done.append(sequence)
        if self._speculator is not None:
            self._speculator.forget(sequence)

    def _complete(self, request: Request, sent: Sent) -> None:
        """All sequences are done: rank the answers if they are to be, and forget the request."""
        if request.ranked:
            order = rank_answers([[t.logprob for t in s.chosen] for s in request.done])
            for answer, place in enumerate(order[: request.params.n]):
                for token in request.done[place].chosen:
                    sent.append((request, replace(token, answer=answer)))
        self._remove(request)
        self._count.finished += 1

    def _search(self, request: Request, sent: Sent) -> None:
        """Let a search choose among its branches, once all of them have been read."""
        search, live = request.search, request.sequences
        if search is None or any(branch.logits is None for branch in live):
            return
        if not request.started:
            request.started = True
            if search.needs_hidden:
                search.start(torch.cat(request.prompt_hidden))
            request.prompt_hidden.clear()
        logits = torch.stack([branch.logits for branch in live if branch.logits is not None])
        hidden = [branch.hidden for branch in live if branch.hidden is not None]
        branches = search.advance(logits, torch.stack(hidden) if search.needs_hidden else None)
        self._note_token(request)
        request.sequences = [
            Sequence(
                request,
                [*live[branch.parent].tokens, branch.token],
                live[branch.parent].state,
                live[branch.parent].text,
                table=self.manager.fork(live[branch.parent].table),
                computed=live[branch.parent].computed,
            )
            for branch in branches
        ]
        for parent in live:
            self.manager.release(parent.table)
        if branches:
            return
        for answer, found in enumerate(search.results()[: request.params.n]):
            sent += [(request, token) for token in self._written(request, answer, found)]
        self._remove(request)
        self._count.finished += 1

    def _written(self, request: Request, answer: int, found: Hypothesis) -> list[Token]:
        """What a search found, as tokens with their text, up to the first stop string."""
        text, state = self._text(request), self._state(request, 0)
        writer = Sequence(request, list(request.prompt), state, text, answer)
        tokens = []
        for token_id, logprob in zip(found.token_ids, found.logprobs, strict=True):
            tokens.append(writer.accept(token_id, logprob, ()))
            if writer.finish_reason is not None:
                return tokens
        rest, _ = text.flush()  # it ended where its grammar did, without an end token
        last = tokens.pop()
        return [*tokens, replace(last, text=last.text + rest, finish_reason=found.finish_reason)]

    def _remove(self, request: Request) -> None:
        for sequence in request.sequences:
            if self._speculator is not None:
                self._speculator.forget(sequence)
        self.scheduler.remove(request)
        request.sequences = []

    def _state(self, request: Request, answer: int) -> SamplingState:
        prompt = request.prompt[len(request.soft_prompt or ()) :]  # vectors are no tokens
        return SamplingState(request.params, prompt, self._model.tokenizer, answer)

    def _text(self, request: Request) -> AnswerText:
        return AnswerText(self._model.tokenizer.stream_decoder(), request.params.stop)
