"""The next token of every sequence of a batch, each by its own parameters.

    logits -> logit bias -> penalties -> minimum length -> grammar      what may be said
           -> temperature -> top-k -> top-p -> min-p -> typical -> draw  what is said

in the order of transformers. A draw inverts the cumulative distribution at one uniform number of
the sequence's own generator, so an answer with a seed does not depend on its neighbours. With
temperature 0 the argmax of what may be said is taken, among equals the lowest id.

Where all rows are plainly greedy, one argmax serves the batch. Else rows that ask for the same
filters are computed together, whatever their values; only rows with bias, penalties or grammar
are copied and changed. Nothing loops over the vocabulary in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from llmwright.inference.decoding.logprobs import Top, logprob_of, top_alternatives
from llmwright.inference.decoding.min_p import keep_min_p
from llmwright.inference.decoding.penalties import apply_penalties
from llmwright.inference.decoding.state import SamplingState
from llmwright.inference.decoding.temperature import apply_temperature
from llmwright.inference.decoding.top_k import keep_top_k
from llmwright.inference.decoding.top_p import keep_top_p
from llmwright.inference.decoding.typical import keep_typical
from llmwright.inference.native import greedy, native_available

_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token, its log-probability under the model's own distribution, and the likeliest
    tokens at its place where they were asked for."""

    token: int
    logprob: float
    top: Top = ()


def choose(logits: Tensor, states: Sequence[SamplingState]) -> list[Choice]:
    """One token for each row of logits [rows, vocab] float32, which stay as they are.

    The states are not moved: the caller does that with ``advance`` for the tokens it keeps.
    """
    if all(state.plain for state in states):
        if logits.device.type == "cpu" and native_available():
            ids, logprobs = greedy(logits)
            both = zip(ids.tolist(), logprobs.tolist(), strict=True)
            return [Choice(token, logprob) for token, logprob in both]
        ids = logits.argmax(-1)  # [rows]
    else:
        ids = torch.empty(len(states), dtype=torch.long, device=logits.device)
        for rows in _alike(states):
            some = [states[row] for row in rows]
            part = _changed(logits, rows, some)
            if some[0].params.temperature == 0.0:
                ids[rows] = part.argmax(-1)
            else:
                uniform = torch.tensor([state.uniform() for state in some], dtype=torch.float64)
                ids[rows] = draw(_warp(part, some).softmax(-1), uniform.to(logits.device))
    tops: list[Top] = [()] * len(states)
    asking = [row for row, state in enumerate(states) if state.params.logprobs]
    if asking:
        counts = [states[row].params.logprobs or 0 for row in asking]
        found = top_alternatives(logits[asking], max(counts))
        for row, count, top in zip(asking, counts, found, strict=True):
            tops[row] = top[:count]
    logprobs = logits.log_softmax(-1).gather(-1, ids[:, None])[:, 0]  # half of logsumexp's time
    chosen = zip(ids.tolist(), logprobs.tolist(), tops, strict=True)
    return [Choice(token, logprob, top) for token, logprob, top in chosen]


def record(logits: Tensor, token: int, state: SamplingState) -> Choice:
    """A token of logits [vocab] that was chosen elsewhere, as ``choose`` would have put it."""
    logprob = float(logprob_of(logits, torch.tensor(token, device=logits.device)))
    count = state.params.logprobs or 0
    return Choice(token, logprob, top_alternatives(logits[None], count)[0] if count else ())


def distribution(logits: Tensor, states: Sequence[SamplingState]) -> Tensor:
    """What ``choose`` draws from: probabilities [rows, vocab], one-hot for greedy rows.

    For the k + 1 places that a draft of k tokens opens, ``states_along`` gives the states.
    """
    out = torch.empty_like(logits)
    for rows in _alike(states):
        some = [states[row] for row in rows]
        out[rows] = _probabilities(_changed(logits, rows, some), some)
    return out


def states_along(state: SamplingState, tokens: Sequence[int]) -> list[SamplingState]:
    """The state before each of ``tokens`` and after the last, as if they had been chosen: k + 1.

    They only look: ``state`` is not moved. A token that the grammar forbids has probability 0
    and cannot be accepted, so what would stand after it is the state before it again. States
    that nothing changes are one and the same object.
    """
    if not state.changes_logits:
        return [state] * (len(tokens) + 1)
    states = [state]
    for token in tokens:
        last = states[-1]
        if last.allows(token):
            last = last.clone()
            last.advance(token)
        states.append(last)
    return states


def distribution_after(logits: Tensor, state: SamplingState, drafted: Sequence[int]) -> Tensor:
    """What is drawn from logits [vocab], where ``drafted`` tokens stand after the answer."""
    return distribution(logits[None], [states_along(state, drafted)[-1]])[0]


def process(logits: Tensor, states: Sequence[SamplingState]) -> Tensor:
    """Bias, penalties, minimum length and grammar on logits [rows, vocab]; a new tensor where
    any of them does something."""
    changing = [row for row, state in enumerate(states) if state.changes_logits]
    if not changing:
        return logits
    logits = logits.clone()
    counted, counted_rows = [], []
    for row in changing:
        state = states[row]
        if state.bias is not None:
            state.bias.apply(logits[row])
        if state.counts is not None:
            counted.append((state.counts, state.params))
            counted_rows.append(row)
    if counted:
        apply_penalties(logits, counted, counted_rows)
    for row in changing:
        state = states[row]
        if state.waits:
            logits[row, state.end_ids.to(logits.device)] = -torch.inf
        if state.grammar is not None:
            state.grammar.forbid(logits[row], state.ends)
    return logits


def draw(weights: Tensor, uniform: Tensor) -> Tensor:
    """Ids [rows] where cumulative weights [rows, vocab] pass ``uniform`` [rows] of their total.

    In two steps, over sums of blocks and then inside one block: a running sum over a whole
    vocabulary costs more than the softmax before it. An id of weight 0 is never drawn.
    """
    rows, vocab = weights.shape
    if vocab % _BLOCK:
        weights = F.pad(weights, (0, -vocab % _BLOCK))
    blocks = weights.view(rows, -1, _BLOCK)
    sums = blocks.sum(-1).double()  # [rows, blocks]
    before = F.pad(sums.cumsum(-1), (1, 0))  # [rows, blocks + 1], from 0
    point = uniform[:, None] * before[:, -1:]  # [rows, 1]
    block = _first_above(before[:, 1:].contiguous(), point)  # [rows, 1]
    inside = blocks.gather(1, block[..., None].expand(-1, -1, _BLOCK))[:, 0]  # [rows, block]
    place = _first_above(inside.double().cumsum(-1), point - before.gather(1, block))
    return (block * _BLOCK + place)[:, 0]


def _first_above(cumulative: Tensor, point: Tensor) -> Tensor:
    """First place whose cumulative weight exceeds the point [rows, 1]; where rounding puts the
    point at the end or beyond, the last place of weight above 0."""
    place = torch.searchsorted(cumulative, point, right=True)
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())
    return torch.minimum(place, last)


def _alike(states: Sequence[SamplingState]) -> list[list[int]]:
    """Rows grouped by which steps they need, whatever the values."""
    groups: dict[tuple[bool, ...], list[int]] = {}
    for row, state in enumerate(states):
        params = state.params
        drawn = params.temperature > 0.0
        groups.setdefault(
            (
                drawn,
                drawn and params.top_k > 0,
                drawn and params.top_p < 1.0,
                drawn and params.min_p > 0.0,
                drawn and params.typical_p < 1.0,
            ),
            [],
        ).append(row)
    return list(groups.values())


def _changed(logits: Tensor, rows: list[int], states: Sequence[SamplingState]) -> Tensor:
    return process(logits if len(rows) == len(logits) else logits[rows], states)


def _probabilities(logits: Tensor, states: Sequence[SamplingState]) -> Tensor:
    if states[0].params.temperature == 0.0:
        best = logits.argmax(-1, keepdim=True)  # [rows, 1]
        return torch.zeros_like(logits).scatter(-1, best, 1.0)
    return _warp(logits, states).softmax(-1)


def _warp(logits: Tensor, states: Sequence[SamplingState]) -> Tensor:
    """Temperature and filters on rows that all use the same ones."""
    params = [state.params for state in states]

    def column(values: list[float], dtype: torch.dtype = torch.float32) -> Tensor:  # [rows, 1]
        return torch.tensor(values, dtype=dtype, device=logits.device)[:, None]

    first = params[0]
    logits = apply_temperature(logits, column([p.temperature for p in params]))
    if first.top_k > 0:
        logits = keep_top_k(logits, column([p.top_k for p in params], torch.long))
    if first.top_p < 1.0:
        logits = keep_top_p(logits, column([p.top_p for p in params], torch.float64))
    if first.min_p > 0.0:
        logits = keep_min_p(logits, column([p.min_p for p in params]))
    if first.typical_p < 1.0:
        logits = keep_typical(logits, column([p.typical_p for p in params], torch.float64))
    return logits
