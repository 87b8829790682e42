"""Speculative decoding of one prompt, as plainly as it can be written.

The reference that the engine's batched form is held against, and the way to measure an acceptance
rate or try a proposer without an engine:

    round:  k drafts from the proposer
            one pass of the target over the last token and the drafts: p_1 ... p_(k+1)
            verify -> 1 to k + 1 tokens; the target's cache is cut back to what stands

(Leviathan et al., 2022, arXiv 2211.17192.) Costs one target pass a round.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch

from llmwright.core import SamplingParams
from llmwright.inference.decoding import (
    SamplingState,
    check_tokens,
    distribution,
    process,
    states_along,
)
from llmwright.inference.speculation.acceptance import verify, verify_greedy
from llmwright.inference.speculation.proposer import Ask, Proposer
from llmwright.modeling import Decoder, KVCache

_KEY = 0


@dataclass(slots=True)
class Speculation:
    """An answer, and how it came about; lists hold one entry a round."""

    token_ids: list[int] = field(default_factory=list)
    drafted: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)

    @property
    def acceptance(self) -> float | None:
        """Accepted over judged drafts (those after a rejection were not); None without any."""
        pairs = list(zip(self.drafted, self.accepted, strict=True))
        judged = sum(kept + (kept < drafted) for drafted, kept in pairs)
        return sum(self.accepted) / judged if judged else None


@torch.inference_mode()
def speculative_generate(
    target: Decoder,
    proposer: Proposer,
    prompt: Sequence[int],
    params: SamplingParams,
    *,
    length: int = 4,
    eos_ids: Collection[int] = (),
) -> Speculation:
    """Continue ``prompt`` (at least one token) with drafts of ``length`` tokens.

    The answer follows the target's distribution under ``params`` whatever the proposer; with
    temperature 0 it is the greedy one. It ends with a token of ``eos_ids``, after
    ``params.max_tokens``, or where the target's positions end. Stop strings, grammars, searches
    and several answers are the engine's. Raises ``InputError`` for tokens the target lacks.
    """
    config = target.config
    check_tokens(params, config.vocab_size)
    cache = KVCache(config, target.dtype, device=target.device)
    state = SamplingState(params, prompt, ends=eos_ids)
    tokens, done = list(prompt), Speculation()
    room = min(params.max_tokens, config.max_position_embeddings - len(tokens))
    while len(done.token_ids) < room:
        # The round ends with a token that is not drafted, so the last one never is.
        wanted = min(length, room - len(done.token_ids) - 1)
        draft = proposer.propose([Ask(_KEY, tokens, wanted, state)])[0]
        k = len(draft.tokens)
        new = torch.tensor([tokens[cache.length :] + list(draft.tokens)], device=target.device)
        last = torch.arange(new.shape[1] - k - 1, new.shape[1], device=target.device)
        positions = cache.positions(new.shape[1])
        logits = target(new, positions, cache, logits_at=last)[0]  # [k + 1, vocab]
        states = states_along(state, draft.tokens)
        if state.generator is None:
            best = process(logits, states).argmax(-1).tolist()
            chosen, accepted = verify_greedy(best, draft.tokens)
        else:
            chosen, accepted = verify(distribution(logits, states), draft, state.generator)
        cache.truncate(len(tokens) + accepted)
        done.drafted.append(k)
        done.accepted.append(accepted)
        for token in chosen:
            tokens.append(token)
            done.token_ids.append(token)
            state.advance(token)
            if state.is_end(token):
                proposer.forget(_KEY)
                return done
    proposer.forget(_KEY)
    return done
