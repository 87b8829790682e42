"""What is asked for, and how far it is: a request, and the sequences that answer it.

A request starts as one sequence, its prompt. It has more when several answers are wanted, or
when a search keeps several branches; they share the prompt's blocks. What a sequence has read
(``computed``) and what it holds (``tokens``) differ by what is pending: a prompt not yet read, or
the token chosen last.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

from torch import Tensor

from llmwright.core import FinishReason, SamplingParams
from llmwright.inference.blocks import Table
from llmwright.inference.decoding import SamplingState, Search
from llmwright.inference.speculation import Draft
from llmwright.inference.stopping import StopFilter
from llmwright.tokenization import StreamDecoder


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token and the text that became certain with it (often its own, but
    incomplete characters and possible beginnings of stop strings wait).

    ``answer`` counts the answers of one request from 0. The last token of each carries
    ``finish_reason``. ``top`` are the most probable tokens at this place with their
    log-probabilities, where they were asked for.
    """

    id: int
    logprob: float
    text: str
    finish_reason: FinishReason | None = None
    answer: int = 0
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class SoftPrompt:
    """Learned vectors [length, hidden] that stand before a prompt in place of embedded tokens.
    Prompts behind equal names share their cache."""

    name: str
    vectors: Tensor

    def __len__(self) -> int:
        return len(self.vectors)


class AnswerText:
    """Token ids in, text out, cut at the first stop string."""

    def __init__(self, decoder: StreamDecoder, stops: Items[str]) -> None:
        self._decoder = decoder
        self._filter = StopFilter(stops)

    def push(self, token_id: int) -> tuple[str, bool]:
        """Text that is now certain, and whether a stop string ended it."""
        return self._filter.push(self._decoder.push(token_id))

    def flush(self) -> tuple[str, bool]:
        """The rest, now that no token follows."""
        text, stopped = self._filter.push(self._decoder.flush())
        return text + self._filter.flush(), stopped


@dataclass(slots=True, eq=False)
class Sequence:
    """One text in the making. ``tokens`` begin with the prompt, soft prompt included."""

    request: Request
    tokens: list[int]
    state: SamplingState
    text: AnswerText
    answer: int = 0
    table: Table = field(default_factory=Table)
    computed: int = 0  # leading tokens whose keys and values are in the cache
    draft: Draft | None = None  # proposed tokens that the next pass checks
    logits: Tensor | None = None  # [vocab], of a branch that waits for its siblings
    hidden: Tensor | None = None  # [hidden], the same
    chosen: list[Token] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    @property
    def pending(self) -> int:
        """Tokens not read yet, drafts not counted."""
        return len(self.tokens) - self.computed

    def accept(self, token_id: int, logprob: float, top: tuple[tuple[int, float], ...]) -> Token:
        """Append a token, and see whether the answer ends with it."""
        request = self.request
        self.tokens.append(token_id)
        text = ""
        reason: FinishReason | None = None
        if self.state.is_end(token_id):
            reason = "stop"
        else:
            text, stopped = self.text.push(token_id)
            if stopped:
                self.finish_reason = "stop"
                return Token(token_id, logprob, text, "stop", self.answer, top)
            if self.state.finished:
                reason = "stop"
            elif len(self.tokens) >= request.limit:
                reason = "length"
        if reason is not None:  # nothing follows that could decide what was held back
            rest, stopped = self.text.flush()
            text += rest
            self.finish_reason = reason = "stop" if stopped else reason
        return Token(token_id, logprob, text, reason, self.answer, top)


class Request:
    """One question to the engine.

    ``priority``: lower goes first. ``tenant``: whose it is; waiting tenants of one priority are
    served evenly. ``limit`` is the most tokens of a sequence, its prompt included.
    """

    def __init__(
        self,
        prompt: Items[int],
        params: SamplingParams,
        *,
        limit: int,
        adapter: str | None = None,
        soft_prompt: SoftPrompt | None = None,
        priority: int = 0,
        tenant: Hashable = None,
        search: Search | None = None,
        length_matters: bool = False,
    ) -> None:
        self.prompt = [0] * len(soft_prompt or ()) + list(prompt)
        self.params = params
        self.limit = limit
        self.adapter = adapter
        self.soft_prompt = soft_prompt
        self.priority = priority
        self.tenant = tenant
        self.search = search
        self.length_matters = length_matters  # the rotary scaling looks at ``limit``
        self.prompt_hidden: list[Tensor] = []  # pieces [time, hidden], for searches that ask
        self.sequences: list[Sequence] = []  # those that go on
        self.done: list[Sequence] = []
        self.arrival = 0  # its number among all requests, given by the scheduler
        self.started = False  # its prompt has been read once
        self.preempted = False
        self.cached_tokens = 0  # of the prompt, found in the prefix cache
        self.created = time.monotonic()
        self.last_token: float | None = None

    @property
    def root(self) -> Hashable:
        """What else than the tokens decides the keys and values."""
        length = self.limit if self.length_matters else None
        return (self.adapter, self.soft_prompt and self.soft_prompt.name, length)

    @property
    def branches(self) -> int:
        """Most sequences it has at a time."""
        if self.search is not None:
            return self.search.width
        return self.params.sequences

    @property
    def ranked(self) -> bool:
        """Whether answers can only be handed out when all are finished."""
        return self.params.sequences > self.params.n
