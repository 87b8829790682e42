"""What reading documents by a model may cost: told before it runs, and held while it runs.

Each call reserves its prompt and the longest answer it may give before it is made; a call whose
reserve does not fit is not made. So tokens and money stay below the cap, but for what the
estimate of prompt tokens is wrong by in the calls under way (``approximate_tokens`` is near
English tokenizers' counts, and a model that counts otherwise is found out after its first call:
what it says it used replaces the reserve).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmwright.core import (
    CapacityError,
    ChatModel,
    Completion,
    ConfigurationError,
    Message,
    SamplingParams,
    Usage,
)
from llmwright.retrieval.chunking.spans import approximate_tokens

_PER_MESSAGE = 8  # tokens that a chat template sets around a message, about


class BudgetError(CapacityError):
    """The next call would pass the cap; what was done is kept."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Money for a million tokens read, and for a million written."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, usage: Usage) -> float:
        read = usage.prompt_tokens * self.prompt
        return (read + usage.completion_tokens * self.completion) / 1e6


@dataclass(slots=True)
class Budget:
    """A cap on tokens and on money, and what has been spent of it. None: no cap.

    Raises ``ConfigurationError`` for a cap below 0, and for a cap on money without prices, which
    would hold nothing back.
    """

    max_tokens: int | None = None
    max_cost: float | None = None
    prices: Prices = field(default_factory=Prices)
    spent: Usage = field(default_factory=Usage)
    calls: int = 0

    def __post_init__(self) -> None:
        for cap in (self.max_tokens, self.max_cost):
            if cap is not None and not cap >= 0:
                raise ConfigurationError(f"a cap is {cap}", where="budget", fix="give 0 or more")
        if self.max_cost is not None and self.prices == Prices():
            raise ConfigurationError(
                "a cap on money needs prices", where="budget", fix="give the price of a token"
            )

    @property
    def cost(self) -> float:
        return self.prices.cost(self.spent)

    def reserve(self, usage: Usage) -> None:
        """Take the most that a call may use. Raises ``BudgetError`` where it does not fit."""
        after = self.spent + usage
        for cap, value, what in (
            (self.max_tokens, after.total_tokens, "tokens"),
            (self.max_cost, self.prices.cost(after), "of money"),
        ):
            if cap is not None and value > cap:
                raise BudgetError(
                    f"the next call could use {value:g} {what} in all, the cap is {cap:g}",
                    where="budget",
                    fix="raise the cap and run again: what was done is kept",
                )
        self.spent = after

    def settle(self, reserved: Usage, used: Usage) -> None:
        """Put what a call used in the place of its reserve; a model that tells nothing keeps it."""
        self.calls += 1
        if used.total_tokens:
            self.spent = Usage(
                self.spent.prompt_tokens - reserved.prompt_tokens + used.prompt_tokens,
                self.spent.completion_tokens - reserved.completion_tokens + used.completion_tokens,
            )

    async def ask(
        self, model: ChatModel, messages: Sequence[Message], params: SamplingParams
    ) -> Completion:
        """One call within the budget. Raises ``BudgetError`` in place of making it."""
        reserved = reserve_of(messages, params)
        self.reserve(reserved)
        try:
            completion = await model.complete(messages, params)
        except BaseException:
            # What a failed call cost is not known: its reserve stays spent.
            self.calls += 1
            raise
        self.settle(reserved, completion.usage)
        return completion


def reserve_of(messages: Sequence[Message], params: SamplingParams) -> Usage:
    """The most that a call may use, its prompt estimated."""
    prompt = sum(approximate_tokens(m.content) + _PER_MESSAGE for m in messages)
    return Usage(prompt, params.max_tokens)
