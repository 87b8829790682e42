"""What one sequence brings to the choice of its next token, and what it remembers.

Its parameters, its own random numbers, the counts its penalties need, where it stands in its
grammar. Everything is kept as tokens come, so a step costs nothing for what was said before; and
everything can be copied, for beams and for drafts that may be rejected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch

from llmwright.core import InputError, SamplingParams
from llmwright.inference.decoding.logit_bias import LogitBias
from llmwright.inference.decoding.penalties import TokenCounts, has_penalties
from llmwright.tokenization import Tokenizer

if TYPE_CHECKING:  # llguidance is needed only where a grammar is
    from llmwright.inference.decoding.structured import GrammarState


class SamplingState:
    """The state of one sequence.

    ``tokenizer`` gives the end tokens, where ``ends`` does not, and the bytes that structured
    output is made of. ``index`` counts the answers to one prompt: each draws other numbers, all
    of them decided by the seed. Raises ``InputError`` for a schema or grammar that is none.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int] = (),
        tokenizer: Tokenizer | None = None,
        index: int = 0,
        *,
        ends: Collection[int] | None = None,
    ) -> None:
        if ends is None:
            ends = () if tokenizer is None else tokenizer.eos_ids
        self.grammar: GrammarState | None = None
        if params.structured:
            if tokenizer is None:
                raise ValueError("structured output needs a tokenizer")
            from llmwright.inference.decoding.structured import compile_grammar

            self.grammar = compile_grammar(tokenizer, params)
        self.params = params
        self.produced = 0  # tokens of the answer so far
        self.ends = frozenset(() if params.ignore_eos else ends) | set(params.stop_token_ids)
        self.generator = None if params.temperature == 0.0 else _generator(params.seed, index)
        self.bias = LogitBias(dict(params.logit_bias)) if params.logit_bias else None
        self.counts: TokenCounts | None = None
        if has_penalties(params):
            self.counts = TokenCounts(prompt_ids, params.repetition_penalty != 1.0)
        self.end_ids = torch.tensor(sorted(self.ends), dtype=torch.long)  # [ends]

    @property
    def waits(self) -> bool:
        """Whether the answer is too short to end."""
        return self.produced < self.params.min_tokens and bool(self.ends)

    @property
    def changes_logits(self) -> bool:
        """Whether anything stands between the model's logits and temperature."""
        lasting = (self.bias, self.counts, self.grammar)
        return self.waits or any(each is not None for each in lasting)

    @property
    def plain(self) -> bool:
        """Whether the next token is simply the argmax, and no alternatives are asked for."""
        params = self.params
        return params.temperature == 0.0 and not self.changes_logits and not params.logprobs

    @property
    def finished(self) -> bool:
        """Whether the answer is complete and its grammar lets nothing follow but the end."""
        return self.grammar is not None and self.grammar.finished

    def is_end(self, token: int) -> bool:
        """Whether the answer ends with this token."""
        return token in self.ends

    def advance(self, token: int) -> None:
        """Take note of a chosen token. An end token is no part of what a grammar reads."""
        self.produced += 1
        if self.counts is not None:
            self.counts.add(token)
        if self.grammar is not None and token not in self.ends:
            self.grammar.advance(token)

    def clone(self) -> SamplingState:
        """A copy that goes its own way; it would draw the numbers that this one would draw."""
        other = object.__new__(SamplingState)
        other.__dict__.update(self.__dict__)
        if self.counts is not None:
            other.counts = self.counts.clone()
        if self.grammar is not None:
            other.grammar = self.grammar.clone()
        if self.generator is not None:
            other.generator = torch.Generator()
            other.generator.set_state(self.generator.get_state())
        return other

    def allows(self, token: int) -> bool:
        """Whether the grammar, where there is one, lets this token come next."""
        if self.grammar is None:
            return True
        return self.grammar.accepting if token in self.ends else self.grammar.allows(token)

    def uniform(self) -> float:
        """One number in [0, 1) of this sequence's own: exactly one is used for a drawn token."""
        return float(torch.rand((), dtype=torch.float64, generator=self.generator))


def check_tokens(params: SamplingParams, vocab_size: int) -> None:
    """Raise ``InputError`` where the parameters name a token that the model does not have."""
    for name, ids in (
        ("logit_bias", list(dict(params.logit_bias))),
        ("stop_token_ids", params.stop_token_ids),
    ):
        if ids and max(ids) >= vocab_size:
            raise InputError(
                f"{name} names token {max(ids)}",
                where="sampling parameters",
                fix=f"this model's tokens run from 0 to {vocab_size - 1}",
            )


def _generator(seed: int | None, index: int) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    elif index == 0:
        generator.manual_seed(seed % 2**64)
    else:
        digest = hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=8).digest()
        generator.manual_seed(int.from_bytes(digest, "little"))
    return generator
