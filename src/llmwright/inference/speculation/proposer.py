"""What a proposer of drafts is, and what it is asked.

Speculative decoding has three parties: a proposer that guesses the next tokens of a sequence
cheaply (``ngram``, ``draft``), the target model, which reads all guesses in one pass, and the
rule that keeps a prefix of them (``acceptance``). A proposer knows nothing of the other two. It is
told which tokens stand now, so it sees by itself which of its guesses were kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Draft:
    """Guessed tokens, and the distributions they were drawn from.

    ``probabilities`` [k, vocab] is q, or None where nothing was drawn: each token was certain to
    be proposed, so q is one-hot.
    """

    tokens: tuple[int, ...] = ()
    probabilities: Tensor | None = None


class Sampling(Protocol):
    """How the next token of one sequence is drawn, the same for target and draft: what a proposer
    needs of ``decoding.SamplingState``."""

    @property
    def generator(self) -> torch.Generator | None: ...

    def probabilities(self, logits: Tensor, drafted: Sequence[int]) -> Tensor:
        """Logits [vocab] -> distribution [vocab], where ``drafted`` tokens stand after the
        sequence (penalties count them)."""
        ...


class Ask(NamedTuple):
    """A wish for at most ``length`` tokens after ``token_ids`` (prompt and output so far) of the
    sequence ``key``; ``state`` None means greedy."""

    key: int
    token_ids: Sequence[int]
    length: int
    state: Sampling | None = None


class Proposer(Protocol):
    """Guesses the next tokens of sequences, each named by a key of the caller's choice."""

    def propose(self, key: int, token_ids: Sequence[int], length: int) -> Draft:
        """At most ``length`` tokens to follow ``token_ids``, greedily."""
        ...

    def propose_all(self, asks: Sequence[Ask]) -> list[Draft]:
        """The same for several sequences at once, in the order asked."""
        ...

    def forget(self, key: int) -> None:
        """Free what is kept of a sequence; unknown keys are fine."""
        ...
