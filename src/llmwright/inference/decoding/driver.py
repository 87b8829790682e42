"""The plainest loops that run a decoder: one prompt, every method, no engine.

The reference for the engine and for tests, and enough for a script. A search's branches, or the
answers of one prompt, are the rows of one batch over one cache; branches that fork copy their
rows. Prompts are read once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from llmwright.core import FinishReason, SamplingParams
from llmwright.inference.decoding.best_of import rank_answers
from llmwright.inference.decoding.sampler import choose
from llmwright.inference.decoding.search import Hypothesis, Search
from llmwright.inference.decoding.searches import search_for
from llmwright.inference.decoding.state import SamplingState, check_tokens
from llmwright.modeling import Decoder, KVCache
from llmwright.tokenization import Tokenizer


def generate(
    decoder: Decoder,
    prompt: Sequence[int],
    params: SamplingParams,
    tokenizer: Tokenizer | None = None,
    *,
    ends: Collection[int] | None = None,
) -> list[Hypothesis]:
    """The ``params.n`` answers to ``prompt`` by whatever method ``params`` name, best first where
    they are ranked.

    ``tokenizer`` gives the end tokens, unless ``ends`` does, and structured output needs it.
    Stop strings are not looked for: this loop knows no text. Raises ``InputError`` for tokens
    the model lacks and for a schema or grammar that is none.
    """
    check_tokens(params, decoder.config.vocab_size)
    states = [
        SamplingState(params, prompt, tokenizer, index, ends=ends)
        for index in range(params.sequences if params.num_beams == 1 else 1)
    ]
    room = min(params.max_tokens, decoder.config.max_position_embeddings - len(prompt))
    search = search_for(states[0], room)
    if search is not None:
        return run_search(decoder, prompt, search)[: params.n]
    answers = _draw(decoder, prompt, states, room)
    if params.best_of is None:
        return answers
    order = rank_answers([answer.logprobs for answer in answers])
    return [answers[place] for place in order[: params.n]]


@torch.inference_mode()
def run_search(decoder: Decoder, prompt: Sequence[int], search: Search) -> list[Hypothesis]:
    """Run ``search`` to its end: the answers, best first."""
    cache = KVCache(decoder.config, decoder.dtype, device=decoder.device)
    hidden = _forward(decoder, cache, [list(prompt)])  # [1, time, hidden]
    if search.needs_hidden:
        search.start(hidden[0])
    while branches := search.advance(_logits(decoder, hidden), hidden[:, -1]):
        cache.select(torch.tensor([branch.parent for branch in branches], device=decoder.device))
        hidden = _forward(decoder, cache, [[branch.token] for branch in branches])
    return search.results()


@torch.inference_mode()
def _draw(
    decoder: Decoder, prompt: Sequence[int], states: Sequence[SamplingState], room: int
) -> list[Hypothesis]:
    """One answer for each state, all in one batch."""
    tokens: list[list[int]] = [[] for _ in states]
    logprobs: list[list[float]] = [[] for _ in states]
    reasons: list[FinishReason] = ["length" for _ in states]
    cache = KVCache(decoder.config, decoder.dtype, device=decoder.device)
    logits = _logits(decoder, _forward(decoder, cache, [list(prompt)]))  # [1, vocab]
    logits = logits.expand(len(states), -1)
    live, rows = list(range(len(states))), [0] * len(states)  # answers, and their cache rows
    while live:
        going = []
        for row, choice in zip(live, choose(logits, [states[i] for i in live]), strict=True):
            state = states[row]
            state.advance(choice.token)
            tokens[row].append(choice.token)
            logprobs[row].append(choice.logprob)
            if state.is_end(choice.token) or state.finished:
                reasons[row] = "stop"
            elif len(tokens[row]) < room:
                going.append(row)
        if not going:
            break
        kept = [rows[live.index(row)] for row in going]
        cache.select(torch.tensor(kept, device=decoder.device))
        live, rows = going, list(range(len(going)))
        logits = _logits(decoder, _forward(decoder, cache, [[tokens[row][-1]] for row in live]))
    return [
        Hypothesis(tuple(ids), tuple(given), sum(given) / len(given), reason)
        for ids, given, reason in zip(tokens, logprobs, reasons, strict=True)
    ]


def _forward(decoder: Decoder, cache: KVCache, rows: list[list[int]]) -> Tensor:
    """Hidden states [rows, time, hidden] of new tokens."""
    new = torch.tensor(rows, device=decoder.device)  # [rows, time]
    hidden: Tensor = decoder.model(new, cache.positions(new.shape[1]), cache)
    return hidden


def _logits(decoder: Decoder, hidden: Tensor) -> Tensor:
    """Logits [rows, vocab] behind the last token of each row."""
    logits: Tensor = decoder.lm_head(hidden[:, -1]).float()
    return logits
