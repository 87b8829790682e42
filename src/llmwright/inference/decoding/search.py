"""What a search over several branches is, for whoever runs the model.

A search keeps branches, texts that grow side by side, and after each pass over the model says
which of them go on with which token. It sees logits (and, if it asks, hidden states), never the
model, a cache or text:

    search.start(hidden of the prompt)             only where ``needs_hidden``
    live = [prompt]                                one branch
    while branches := search.advance(logits after the last token of each live branch, hidden):
        live = [live[b.parent] + [b.token] for b in branches]     the caches are forked alike
    search.results()                               best first

(Diverse) beam search is ``beam`` and ``diverse_beams``, contrastive search ``contrastive``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from llmwright.core import FinishReason


@dataclass(frozen=True, slots=True)
class Branch:
    """A live branch of the next pass: live branch ``parent`` of this pass, and a token."""

    parent: int
    token: int


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """An answer that a search found: its tokens, the one that ended it included; their natural
    log-probabilities under the model's own distribution; what it was ranked by."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    score: float
    finish_reason: FinishReason


class Search(Protocol):
    """One search for one prompt; it cannot be used twice."""

    @property
    def width(self) -> int:
        """Most branches that live at a time."""
        ...

    @property
    def needs_hidden(self) -> bool:
        """Whether ``start`` and ``advance`` want hidden states after the last norm."""
        ...

    def start(self, hidden: Tensor) -> None:
        """Take the hidden states of the prompt, [time, hidden]; before the first ``advance``."""
        ...

    def advance(self, logits: Tensor, hidden: Tensor | None = None) -> list[Branch]:
        """The branches that live on, from ``logits`` [live, vocab] float32 and ``hidden``
        [live, hidden]; none when the search is over."""
        ...

    def results(self) -> list[Hypothesis]:
        """What was found so far, best first; of an unfinished search also what is unfinished."""
        ...
