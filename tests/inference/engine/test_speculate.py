"""Speculation changes no answer: whatever is proposed, for whom, and however tight the cache."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import aclosing
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from llmwright.core import SamplingParams
from llmwright.inference.decoding import SamplingState, distribution
from llmwright.inference.engine import Engine, Request
from llmwright.inference.engine.request import Sequence
from llmwright.inference.engine.speculate import Speculator, StepCost
from llmwright.inference.runners import TorchRunner
from llmwright.inference.speculation import Draft, DraftModelProposer, NGramProposer
from llmwright.modeling import random_decoder

KINDS = (
    SamplingParams(max_tokens=24),
    SamplingParams(max_tokens=24, temperature=0.9, top_p=0.9, seed=1),
    SamplingParams(max_tokens=16, temperature=0.6, n=2, seed=2),
    SamplingParams(max_tokens=24, repetition_penalty=1.3, logprobs=2),
    SamplingParams(max_tokens=12, num_beams=2),
    SamplingParams(max_tokens=24, temperature=0.8, min_p=0.05, frequency_penalty=0.5, seed=3),
)


def prompt_of(number):
    return [3 + (number * 31 + place * 7) % 20 for place in range(3 + number % 17)]


class Guesser:
    """Proposes tokens of the real answer, some of them changed; and remembers what was asked."""

    def __init__(self, seed, reference):
        self.chance = random.Random(seed)
        self.reference = reference
        self.open = set()

    def draft(self, key, token_ids, length):
        self.open.add(key)
        guess = []
        for known in self.reference:
            if known[: len(token_ids)] == list(token_ids):
                guess = known[len(token_ids) : len(token_ids) + self.chance.randrange(length + 1)]
        return Draft(tuple(t if self.chance.random() < 0.8 else 7 for t in guess))

    def propose(self, asks):
        return [self.draft(ask.key, ask.token_ids, ask.length) for ask in asks]

    def forget(self, key):
        self.open.discard(key)


def noisy(decoder, noise=0.02):
    other = random_decoder(decoder.config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for mine, weight in zip(other.parameters(), decoder.parameters(), strict=True):
            mine.copy_(weight + noise * torch.randn(weight.shape, generator=generator))
    return other


async def answer(engine, number, params):
    """(ids by answer, log-probabilities by answer)"""
    ids = [[] for _ in range(params.n)]
    logprobs = [[] for _ in range(params.n)]
    async with aclosing(engine.stream_tokens(prompt_of(number), params)) as tokens:
        async for token in tokens:
            ids[token.answer].append(token.id)
            logprobs[token.answer].append(token.logprob)
    return ids, logprobs


async def all_of(engine, jobs):
    return await asyncio.gather(*(answer(engine, *job) for job in jobs))


JOBS = [(number, KINDS[number % len(KINDS)]) for number in range(18)]


@pytest.fixture(scope="module")
def plain(tiny):
    with Engine(tiny, runner="torch") as engine:
        return [asyncio.run(answer(engine, *job)) for job in JOBS]


@pytest.fixture(scope="module")
def proposers(tiny, plain):
    reference = [
        prompt_of(number) + ids
        for (number, _), (answers, _) in zip(JOBS, plain, strict=True)
        for ids in answers
    ]

    def make(kind, seed=0):
        if kind == "ngram":
            return NGramProposer(1, 6)
        if kind == "draft":
            return DraftModelProposer(TorchRunner(noisy(tiny.decoder), 64, 8), tiny.config)
        return Guesser(seed, reference)

    return make


@pytest.fixture
def always(monkeypatch):
    """Drafts that cost nothing, so that the controller never switches off."""
    monkeypatch.setattr(StepCost, "of_draft", lambda self, sequences: 0.0)


@pytest.mark.parametrize("kind", ["ngram", "draft", "guesser"])
@pytest.mark.parametrize("cache_tokens", [4096, 96])
def test_every_answer_is_the_one_without_speculation(
    tiny, plain, proposers, always, kind, cache_tokens
):
    proposer = proposers(kind)
    with Engine(
        tiny, runner="torch", speculate=proposer, cache_tokens=cache_tokens, block_size=8,
        max_sequences=8, token_budget=24,
    ) as engine:  # fmt: skip
        done = asyncio.run(all_of(engine, JOBS))
        seen = engine.stats()
        assert seen.blocks_free == seen.blocks
    for (ids, logprobs), (wanted, wanted_logprobs) in zip(done, plain, strict=True):
        assert ids == wanted
        for some, others in zip(logprobs, wanted_logprobs, strict=True):
            assert some == pytest.approx(others, abs=1e-4)
    assert 0 < seen.accepted_drafts < seen.drafted_tokens
    assert seen.steps < sum(len(ids) for answers, _ in plain for ids in answers)
    if cache_tokens == 96:
        assert seen.preemptions > 0
    if kind == "guesser":
        assert not proposer.open


@settings(max_examples=8)
@given(
    seed=st.integers(0, 10**6), jobs=st.lists(st.sampled_from(range(18)), min_size=1, max_size=9)
)
def test_whatever_is_guessed_and_whoever_leaves(tiny, plain, proposers, seed, jobs):
    """Some read only a few tokens and go; the others get their answers, and all blocks come back."""
    chance = random.Random(seed)

    async def leave(engine, number, params):
        async with aclosing(engine.stream_tokens(prompt_of(number), params)) as tokens:
            for _ in range(chance.randrange(5)):
                await anext(tokens, None)

    async def run(engine):
        staying = [asyncio.create_task(answer(engine, *JOBS[job])) for job in jobs]
        await asyncio.gather(*(leave(engine, *JOBS[chance.randrange(18)]) for _ in range(3)))
        return await asyncio.gather(*staying)

    proposer = proposers("guesser", seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepCost, "of_draft", lambda self, sequences: 0.0)
        with Engine(
            tiny, runner="torch", speculate=proposer, cache_tokens=200, block_size=8,
            max_sequences=4, token_budget=16,
        ) as engine:  # fmt: skip
            done = asyncio.run(run(engine))
            engine._call(lambda: None)  # the last cancellations have been carried out
            seen = engine.stats()
    assert seen.blocks_free == seen.blocks
    assert not proposer.open
    for job, (ids, _) in zip(jobs, done, strict=True):
        assert ids == plain[job][0]


def test_drawn_drafts_keep_the_distribution(tiny, proposers, always):
    params = SamplingParams(max_tokens=3, temperature=1.5, top_k=4)
    prompt = prompt_of(4)
    n = 500
    with Engine(
        replace(tiny, tokenizer=_Endless(tiny.tokenizer)), runner="torch",
        speculate=proposers("draft"), max_waiting=2 * n,
    ) as engine:  # fmt: skip
        done = asyncio.run(all_of(engine, [(4, params)] * n))
        seen = engine.stats()
    assert 0 < seen.accepted_drafts < seen.drafted_tokens
    counts = Counter(tuple(ids[0][:2]) for ids, _ in done)

    def p(text):
        with torch.inference_mode():
            logits = tiny.decoder(torch.tensor([text]))[0, -1:]
            return distribution(logits, [SamplingState(params)])[0]

    first = p(prompt)
    wanted = {
        (a, b): n * float(first[a] * share)
        for a in first.nonzero()[:, 0].tolist()
        for b, share in enumerate(p([*prompt, a]).tolist())
        if share > 0.0
    }
    assert len(wanted) == 16
    assert set(counts) <= set(wanted)
    seen_counts = [counts[cell] for cell in wanted]
    assert stats.chisquare(seen_counts, list(wanted.values()), sum_check=False).pvalue > 1e-3


class _Endless:
    def __init__(self, tokenizer):
        self.__dict__.update(tokenizer.__dict__)
        self.eos_ids = frozenset()
        self.stream_decoder = tokenizer.stream_decoder


def test_the_cost_of_a_draft_is_found_from_the_times_of_passes():
    cost = StepCost()
    assert cost.of_draft(1) == pytest.approx(0.15)
    for tokens in (1, 1, 4, 3, 1, 9, 2, 5, 1, 6):
        cost.add(tokens, 0.010 + 0.002 * tokens)
    assert cost.of_draft(1) == pytest.approx(0.002 / 0.012)
    assert cost.of_draft(16) == pytest.approx(16 * 0.002 / (0.010 + 0.032))
    cost.add_drafts(4, 0.004)
    cost.add_drafts(2, 0.002)
    assert cost.of_draft(1) == pytest.approx(0.003 / 0.012)


def test_passes_of_one_size_tell_only_a_default():
    cost = StepCost()
    for _ in range(20):
        cost.add(1, 0.01)
    assert cost.of_draft(1) == pytest.approx(0.15)


class Notes:
    """A proposer that writes down what it is asked and what it is told to forget."""

    def __init__(self):
        self.asked, self.forgotten = [], []

    def propose(self, asks):
        self.asked.append(list(asks))
        return [Draft((1,) * ask.length) if ask.token_ids[0] else Draft(()) for ask in asks]

    def forget(self, key):
        self.forgotten.append(key)


def sequence(first, *, pending=1, limit=100, chosen=(0,), params=None, search=None, draft=None):
    params = params or SamplingParams()
    made = Request([first, 2, 3], params, limit=limit, search=search)
    state = SamplingState(params)
    made.sequences = [Sequence(made, [first, 2, 3, 4], state, None, draft=draft)]
    made.sequences[0].computed, made.sequences[0].chosen = 4 - pending, list(chosen)
    return made.sequences[0]


def test_who_is_asked_for_drafts_and_for_how_many():
    proposer = Notes()
    speculator = Speculator(proposer)
    seeded = sequence(1, params=SamplingParams(temperature=1.0, seed=3))
    drawn = sequence(2, params=SamplingParams(temperature=1.0))
    greedy, ending = sequence(3, params=SamplingParams(seed=3)), sequence(4, limit=6)
    silent = sequence(0)
    out = [
        sequence(5, limit=5),  # room for the next token only
        sequence(6, pending=2),  # reads
        sequence(7, chosen=()),  # has said nothing yet
        sequence(8, search=object()),
        sequence(9, draft=Draft((1,))),  # has some
    ]
    everyone = [seeded, drawn, greedy, ending, silent]
    speculator.propose([s.request for s in (*everyone, *out)])
    (asks,) = proposer.asked
    assert [ask.key for ask in asks] == [id(s) for s in everyone]
    assert [ask.token_ids for ask in asks] == [s.tokens for s in everyone]
    assert [ask.state for ask in asks] == [
        None,
        drawn.state,
        greedy.state,
        ending.state,
        silent.state,
    ]
    assert asks[3].length == 1 < asks[0].length
    assert [s.draft and len(s.draft.tokens) for s in everyone[3:]] == [1, None]
    assert [s.draft for s in out[:4]] == [None] * 4
    assert speculator.cost._drafts[0][0] == sum(ask.length for ask in asks[:4])

    speculator.settle(seeded, 4, 0)
    for s in (seeded, drawn):
        s.draft = None
    speculator.propose([seeded.request, drawn.request])
    lengths = [ask.length for ask in proposer.asked[1]]
    assert lengths[0] < lengths[1]  # it has learnt from its own drafts, the other from none
    speculator.forget(seeded)
    speculator.forget(seeded)
    speculator.forget(out[1])
    assert proposer.forgotten == [id(seeded)]
    speculator.propose([])
    assert len(proposer.asked) == 2


def test_the_cost_of_a_draft_has_bounds_and_a_memory():
    free, dear = StepCost(), StepCost()
    for tokens in range(1, 8):
        free.add(tokens, 0.010)
    assert free.of_draft(1) == pytest.approx(0.15)  # seven passes are not enough to tell
    for tokens in range(1, 9):
        dear.add(tokens, 0.001 * tokens**3)
    free.add(8, 0.010)
    assert free.of_draft(1) == pytest.approx(0.06 / (4.5 - 0.06 * 3.5))  # of a pass of 4.5 tokens
    assert dear.of_draft(1) == dear.of_draft(5) == pytest.approx(1.0)
    for tokens in range(1, 65):
        dear.add(tokens, 0.010 + 0.002 * tokens)
    assert dear.of_draft(1) == pytest.approx(0.002 / 0.012)
    for _ in range(64):
        dear.add_drafts(1, 0.006)
    assert dear.of_draft(1) == pytest.approx(0.008 / 0.012)
    for _ in range(64):
        dear.add_drafts(2, 0.004)
    assert dear.of_draft(2) == pytest.approx(2 * 0.004 / 0.014)
