"""Two models, one answer: the plain cascade and the speculative one.

**Plain cascade**: the small model answers; where its confidence in the whole answer, the mean or
the least log-probability of its tokens, is below a threshold, the large model answers anew.

    cost = small + P(deferred) large

(confidence by tokens: Gupta et al., 2024, arXiv 2404.10136.)

**Speculative cascade**: small model q drafts k tokens, the large one p reads them in one pass, and
the exact acceptance rule is carried out not against p but against a distribution pi between the
two, which a deferral rule defines token by token (``deferral``):

    accept x with min(1, pi(x)/q(x)), else draw from norm(max(pi - q, 0)); bonus from pi_(k+1)

The answer follows pi exactly. Where the rule trusts the small model pi = q and every draft is kept,
so more tolerance means longer accepted runs; with the rule ``always`` it is speculative decoding.
pi_(k+1) needs q_(k+1): the one more small pass after a full acceptance reads the last draft, which
had to be read anyway. (Narasimhan et al., 2024, arXiv 2405.19261.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from llmwright.core import ConfigurationError, InputError, SamplingParams
from llmwright.inference.decoding import (
    SamplingState,
    check_tokens,
    distribution,
    distribution_after,
    generate,
    states_along,
)
from llmwright.inference.speculation.acceptance import accept, draw
from llmwright.inference.speculation.deferral import Rule, target_distribution
from llmwright.inference.speculation.proposer import Draft
from llmwright.modeling import Decoder, KVCache

Confidence = Callable[[Sequence[float]], float]


def mean_confidence(logprobs: Sequence[float]) -> float:
    """Mean log-probability of an answer's tokens: does not sink with length alone."""
    if not logprobs:
        raise InputError(
            "an answer without log-probabilities has no confidence", where="cascade",
            fix="use a small model that reports them",
        )  # fmt: skip
    return sum(logprobs) / len(logprobs)


def least_confidence(logprobs: Sequence[float]) -> float:
    """Log-probability of an answer's least likely token: one doubtful token defers it all."""
    return min(logprobs, default=mean_confidence(logprobs))


@dataclass(slots=True)
class Cascade:
    """An answer of two models and what it cost, in passes of each.

    ``deferred`` is, of a plain cascade, 1 or 0; of a speculative one the mean mass of q that went
    over to the large model, over the positions that were judged.
    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    small_passes: int = 0
    large_passes: int = 0
    drafted: int = 0
    accepted: int = 0
    deferred: float = 0.0

    def cost(self, ratio: float) -> float:
        """Passes in units of the large model's, the small one's costing ``ratio`` each."""
        return self.large_passes + ratio * self.small_passes


class _Reader:
    """A decoder, its cache, and the passes it made."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.cache = KVCache(decoder.config, decoder.dtype, device=decoder.device)
        self.passes = 0

    def read(self, tokens: Sequence[int], wanted: int = 1) -> Tensor:
        """Read what of ``tokens`` the cache lacks; logits [wanted, vocab] after the last ones."""
        new = torch.tensor([tokens[self.cache.length :]], device=self.decoder.device)
        time = new.shape[1]
        last = torch.arange(time - wanted, time, device=new.device)
        self.passes += 1
        return self.decoder(new, self.cache.positions(time), self.cache, logits_at=last)[0]  # type: ignore[no-any-return]


def plain_generate(
    model: Decoder,
    prompt: Sequence[int],
    params: SamplingParams,
    eos_ids: Collection[int] = (),
) -> Cascade:
    """One model alone, token by token, with the log-probabilities of its tokens."""
    (answer,) = generate(model, prompt, params, ends=eos_ids)
    ids = list(answer.token_ids)
    return Cascade(ids, list(answer.logprobs), large_passes=len(ids))


def plain_cascade(
    small: Decoder,
    large: Decoder,
    prompt: Sequence[int],
    params: SamplingParams,
    threshold: float,
    confidence: Confidence = mean_confidence,
    eos_ids: Collection[int] = (),
) -> Cascade:
    """The small model's answer where its confidence is at least ``threshold``, else the large's."""
    first = plain_generate(small, prompt, params, eos_ids)
    passes = first.large_passes
    if confidence(first.logprobs) >= threshold:
        first.small_passes, first.large_passes = passes, 0
        return first
    second = plain_generate(large, prompt, params, eos_ids)
    second.small_passes, second.deferred = passes, 1.0
    return second


@torch.inference_mode()
def cascade_generate(
    small: Decoder,
    large: Decoder,
    prompt: Sequence[int],
    params: SamplingParams,
    *,
    rule: Rule,
    tolerance: float,
    length: int = 4,
    eos_ids: Collection[int] = (),
) -> Cascade:
    """A speculative cascade over ``prompt`` with drafts of ``length`` tokens.

    Raises ``ConfigurationError`` where the models have different vocabularies, ``length`` is
    below 1 or ``tolerance`` not from 0 to 1, and ``InputError`` for tokens the models lack.
    """
    _check(small, large, tolerance, length)
    check_tokens(params, large.config.vocab_size)
    state = SamplingState(params, prompt, ends=eos_ids)
    drafter, judge = _Reader(small), _Reader(large)
    tokens, done = list(prompt), Cascade()
    judged, deferred = 0, 0.0
    context = min(model.config.max_position_embeddings for model in (small, large))
    room = min(params.max_tokens, context - len(prompt))

    def target(
        p_logits: Tensor, q_logits: Tensor, q: Tensor, states: Sequence[SamplingState]
    ) -> Tensor:
        """pi [n, vocab], and a note of what was deferred."""
        nonlocal judged, deferred
        defer = rule(p_logits.softmax(-1), q_logits.softmax(-1), tolerance)
        judged += len(q)
        deferred += float((defer * q).sum())
        return target_distribution(distribution(p_logits, states), q, defer)

    while len(done.token_ids) < room:
        k = min(length, room - len(done.token_ids) - 1)
        raw: list[Tensor] = []  # logits of the small model
        rows: list[Tensor] = []  # and q, what is drawn from them
        drafts: list[int] = []
        for _ in range(k):
            raw.append(drafter.read([*tokens, *drafts])[0])
            rows.append(distribution_after(raw[-1], state, drafts))
            drafts.append(draw(rows[-1], state.generator))
        text = [*tokens, *drafts]
        p_logits = judge.read(text, k + 1)  # [k + 1, vocab]
        states = states_along(state, drafts)
        chosen: list[int] = []
        accepted = 0
        if k:
            q = torch.stack(rows)  # [k, vocab]
            pi = target(p_logits[:k], torch.stack(raw), q, states[:k])
            chosen, accepted = accept(pi, Draft(tuple(drafts), q), state.generator)
        if accepted == k:
            q_logits = drafter.read(text)  # [1, vocab]
            q = distribution(q_logits, states[k:])
            pi = target(p_logits[k:], q_logits, q, states[k:])
            chosen.append(draw(pi[0], state.generator))
        done.drafted += k
        done.accepted += accepted
        for reader in (drafter, judge):
            reader.cache.truncate(len(tokens) + accepted)
        for token in chosen:
            tokens.append(token)
            done.token_ids.append(token)
            state.advance(token)
            if state.is_end(token):
                room = 0
                break
    done.small_passes, done.large_passes = drafter.passes, judge.passes
    done.deferred = deferred / judged if judged else 0.0
    return done


def _check(small: Decoder, large: Decoder, tolerance: float, length: int) -> None:
    sizes = small.config.vocab_size, large.config.vocab_size
    if sizes[0] != sizes[1]:
        raise ConfigurationError(
            f"the small model knows {sizes[0]} tokens and the large one {sizes[1]}",
            where="cascade", fix="use two models of one tokenizer",
        )  # fmt: skip
    if length < 1:
        raise ConfigurationError(f"drafts of {length} tokens", where="length", fix="give 1 or more")
    if not 0.0 <= tolerance <= 1.0:
        raise ConfigurationError(
            f"a tolerance of {tolerance}", where="tolerance", fix="give one from 0 to 1"
        )
