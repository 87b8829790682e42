"""Which tokens the next pass computes.

Every step gets a budget of tokens. Sequences that answer take theirs first (one token, and the
drafts to be checked), so nobody's stream stalls; what is left goes to prompts, in chunks, and then
to requests that wait. Requests join and leave at any step (continuous batching: Yu et al., "Orca",
OSDI 2022; chunked prefill mixed with decode: Agrawal et al., "Sarathi-Serve", OSDI 2024,
arXiv 2403.02310).

Order. Lower ``priority`` first. Among those that wait, the tenant that was served fewest tokens,
a tenant that comes back being lifted to the least of those present (Sheng et al., "Fairness in
Serving Large Language Models", OSDI 2024, arXiv 2401.00588); then by arrival.

When blocks run out, the last in order is preempted: its blocks are freed, its tokens are kept, and
it reads them again when there is room. The first in order is never preempted for another, and
any request that was let in fits alone, so the engine always moves.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import count

from llmwright.inference.blocks import BlockManager, Table
from llmwright.inference.engine.request import Request, Sequence


@dataclass(slots=True)
class Batch:
    """The next pass: the number of new tokens of each sequence, and blocks to copy before."""

    rows: list[tuple[Sequence, int]] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)


def _rank(request: Request) -> tuple[int, int]:
    return request.priority, request.arrival


class Scheduler:
    """Lets requests into the cache and out of it."""

    def __init__(self, manager: BlockManager, *, max_sequences: int, token_budget: int) -> None:
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.preemptions = 0
        self._manager = manager
        self._max_sequences = max_sequences
        self._token_budget = max(token_budget, max_sequences)
        self._arrivals = count()
        self._served: dict[Hashable, int] = {}  # tokens by tenant, of those present

    def add(self, request: Request) -> None:
        """Let a request wait for its turn."""
        request.arrival = next(self._arrivals)
        present = {r.tenant for r in (*self.waiting, *self.running)}
        least = min((self._served.get(t, 0) for t in present), default=0)
        self._served = {t: self._served.get(t, 0) for t in present | {request.tenant}}
        self._served[request.tenant] = max(self._served[request.tenant], least)
        self.waiting.append(request)

    def remove(self, request: Request) -> None:
        """Forget a request, finished or not, and free its blocks."""
        for sequence in request.sequences:
            self._manager.release(sequence.table)
        (self.running if request in self.running else self.waiting).remove(request)

    def schedule(self) -> Batch:
        """Choose the tokens of the next pass and make room for them."""
        batch = Batch()
        budget = self._token_budget
        order = sorted(self.running, key=_rank)
        for reading in (False, True):  # those that answer go before those that read
            for request in order:
                for sequence in list(request.sequences):
                    if (sequence.pending > 1) == reading and budget > 0:
                        budget -= self._plan(sequence, budget, batch)
        while budget > 0 and (admitted := self._admit(batch)) is not None:
            for sequence in admitted.sequences:
                if budget > 0:
                    budget -= self._plan(sequence, budget, batch)
        for sequence, tokens in batch.rows:
            self._served[sequence.request.tenant] += tokens
        return batch

    def _plan(self, sequence: Sequence, budget: int, batch: Batch) -> int:
        """Put a sequence's next tokens into the batch; gives how many."""
        if not sequence.pending or sequence.request not in self.running:
            return 0  # a branch that waits for its siblings, or preempted a moment ago
        drafts = len(sequence.draft.tokens) if sequence.draft else 0
        tokens = min(sequence.pending + drafts, budget)
        if drafts and tokens < sequence.pending + drafts:
            sequence.draft, tokens = None, min(sequence.pending, budget)
        begin = sequence.computed
        while self._manager.needed(sequence.table, begin, begin + tokens) > self._manager.free:
            victim = max(self.running, key=_rank)
            self._preempt(victim, batch)
            if victim is sequence.request:
                return 0
        batch.copies += self._manager.reserve(sequence.table, begin, begin + tokens)
        batch.rows.append((sequence, tokens))
        return tokens

    def _admit(self, batch: Batch) -> Request | None:
        """Let the next waiting request in, if it fits."""
        if not self.waiting:
            return None
        request = min(
            self.waiting, key=lambda r: (r.priority, self._served.get(r.tenant, 0), r.arrival)
        )
        if sum(r.branches for r in self.running) + request.branches > self._max_sequences:
            return None
        for sequence in request.sequences:
            if request.search and request.search.needs_hidden:  # which no block remembers
                sequence.table = Table(parent=request.root)
                continue
            sequence.table = self._manager.match(sequence.tokens, request.root)
            sequence.computed = len(sequence.table.blocks) * self._manager.block_size
        if not self._make_room(request, batch):
            for sequence in request.sequences:
                self._manager.release(sequence.table)
                sequence.computed = 0
            return None
        if not request.preempted:
            request.cached_tokens = request.sequences[0].computed
        self.waiting.remove(request)
        self.running.append(request)
        return request

    def _make_room(self, request: Request, batch: Batch) -> bool:
        """Whether all that a request has to read fits, and a next block for everyone running;
        requests of lower priority give way."""
        while True:
            wanted = sum(
                self._manager.needed(s.table, s.computed, len(s.tokens)) for s in request.sequences
            )
            spare = sum(len(r.sequences) for r in self.running)
            if wanted + spare <= self._manager.free:
                return True
            victim = max(self.running, key=_rank, default=None)
            if victim is None or victim.priority <= request.priority:
                return False
            self._preempt(victim, batch)

    def _preempt(self, request: Request, batch: Batch) -> None:
        batch.rows = [row for row in batch.rows if row[0].request is not request]
        for sequence in request.sequences:
            self._manager.release(sequence.table)
            sequence.computed = 0
            sequence.draft = sequence.logits = sequence.hidden = None
        request.prompt_hidden.clear()
        request.preempted = True
        self.running.remove(request)
        self.waiting.append(request)
        self.preemptions += 1
