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

from torch import Tensor

from llmwright.inference.decoding import SamplingState


@dataclass(frozen=True, slots=True)
class Draft:
    """Guessed tokens, and the distributions they were drawn from.

    ``probabilities`` [k, vocab] is q, or None where nothing was drawn: each token was certain to
    be proposed, so q is one-hot.
    """

    tokens: tuple[int, ...] = ()
    probabilities: Tensor | None = None


class Ask(NamedTuple):
    """A wish for at most ``length`` tokens after ``token_ids`` (prompt and output so far) of the
    sequence ``key``. ``state``, which a proposer does not move, says how the target draws, so that
    drafts can be drawn alike; None means greedy."""

    key: int
    token_ids: Sequence[int]
    length: int
    state: SamplingState | None = None


class Proposer(Protocol):
    """Guesses the next tokens of sequences, each named by a key of the caller's choice."""

    def propose(self, asks: Sequence[Ask]) -> list[Draft]:
        """A draft for each, in the order asked; an empty one where nothing is to be said."""
        ...

    def forget(self, key: int) -> None:
        """Free what is kept of a sequence; unknown keys are fine."""
        ...
