"""Deferral rules against their definitions; the answer of a speculative cascade follows pi."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError, InputError, SamplingParams
from llmwright.inference.decoding import SamplingState
from llmwright.inference.decoding import distribution as drawn_from
from llmwright.inference.speculation import (
    RULES,
    cascade_generate,
    least_confidence,
    mean_confidence,
    plain_cascade,
    plain_generate,
    target_distribution,
)
from llmwright.inference.speculation.acceptance import keep_probability, residual
from llmwright.modeling import ModelConfig, random_decoder

PROMPT = [3, 4, 5, 6, 7, 3, 4, 5]
SURE, UNSURE = torch.tensor([0.9, 0.1, 0.0]), torch.tensor([0.4, 0.3, 0.3])


def distribution(seed, vocab=5):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(vocab, generator=generator, dtype=torch.float64)).softmax(-1)


def test_each_rule_by_hand():
    p, q = torch.tensor([0.1, 0.7, 0.2]), torch.tensor([0.6, 0.3, 0.1])  # TV = 0.5
    for rule, tolerance, wanted in (
        ("chow", 0.3, [1.0]), ("chow", 0.45, [0.0]),
        ("diff", 0.05, [1.0]), ("diff", 0.15, [0.0]),
        ("opt", 0.15, [1.0]), ("opt", 0.25, [0.0]),
        ("token", 0.5, [1.0, 0.0, 1.0]), ("token", 0.8, [1.0, 0.0, 0.0]), ("token", 1.0, [0.0] * 3),
        ("always", 1.0, [1.0]),
    ):  # fmt: skip
        assert RULES[rule](p, q, tolerance).tolist() == wanted, (rule, tolerance)


def test_a_batch_of_positions_is_each_position():
    p, q = torch.stack([SURE, UNSURE]), torch.stack([UNSURE, SURE])
    for rule in RULES.values():
        both = rule(p, q, 0.2)
        for row in range(2):
            assert torch.equal(both[row], rule(p[row], q[row], 0.2))


@given(
    seed=st.integers(0, 10_000), rule=st.sampled_from(sorted(RULES)), tolerance=st.floats(0.0, 1.0)
)
def test_by_enumeration_one_round_gives_pi_and_pi_is_a_distribution(seed, rule, tolerance):
    p, q = distribution(seed), distribution(seed + 1)
    pi = target_distribution(p, q, RULES[rule](p, q, tolerance))
    assert float(pi.sum()) == pytest.approx(1.0)
    assert float(pi.min()) >= 0.0
    kept = q * keep_probability(pi, q)
    out = kept + (1.0 - kept.sum()) * residual(pi, q)
    torch.testing.assert_close(out, pi)


@given(seed=st.integers(0, 10_000))
def test_at_the_ends_pi_is_one_of_the_two(seed):
    """At a tolerance of 1 the two sides of "opt" can be equal, so a hair beyond it, where
    rounding does not decide."""
    p, q = distribution(seed), distribution(seed + 1)
    for name, rule in RULES.items():
        pi = target_distribution(p, q, rule(p, q, 1.0 + 1e-6))
        torch.testing.assert_close(pi, p if name == "always" else q)


def greedy_cascade(small, large, prompt, rule, tolerance, count):
    """Token by token: what pi's only token is at temperature 0."""
    text = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            ids = torch.tensor([text])
            q, p = small(ids)[0, -1].softmax(-1), large(ids)[0, -1].softmax(-1)
            defer = rule(p, q, tolerance).expand(len(q))
            favourite = int(q.argmax())
            text.append(int(p.argmax()) if defer[favourite] else favourite)
    return text[len(prompt) :]


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("tolerance", [0.0, 0.2, 0.75])
@pytest.mark.parametrize("length", [1, 4])
def test_greedy_answers_are_those_of_the_rule_token_by_token(
    target, relative, rule, tolerance, length
):
    done = cascade_generate(
        relative, target, PROMPT, SamplingParams(max_tokens=30),
        rule=RULES[rule], tolerance=tolerance, length=length,
    )  # fmt: skip
    wanted = greedy_cascade(relative, target, PROMPT, RULES[rule], tolerance, 30)
    assert done.token_ids == wanted
    assert done.large_passes + done.accepted == 30


def test_one_cascade_is_neither_model(target, relative):
    """Else the test above would hold for any rule."""
    params = SamplingParams(max_tokens=30)
    done = cascade_generate(
        relative, target, PROMPT, params, rule=RULES["chow"], tolerance=0.75, length=4
    )
    assert done.token_ids != plain_generate(target, PROMPT, params).token_ids
    assert done.token_ids != plain_generate(relative, PROMPT, params).token_ids
    assert 0.0 < done.deferred < 1.0
    assert done.cost(0.25) == done.large_passes + done.small_passes / 4


def tiny_pair():
    config = ModelConfig(
        vocab_size=4, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, max_position_embeddings=32,
    )  # fmt: skip
    return random_decoder(config, seed=0, std=0.35), random_decoder(config, seed=1, std=0.35)


@pytest.mark.parametrize(("rule", "tolerance"), [("token", 0.4), ("opt", 0.1), ("chow", 0.4)])
def test_sampled_answers_follow_pi(follows, rule, tolerance):
    small, large = tiny_pair()
    n = 1000
    runs = [
        cascade_generate(
            small, large, [1, 2], SamplingParams(3, 1.5, seed=seed),
            rule=RULES[rule], tolerance=tolerance, length=2,
        )
        for seed in range(n)
    ]  # fmt: skip
    counts = Counter(tuple(run.token_ids[:2]) for run in runs)

    def pi(text):
        params = SamplingParams(temperature=1.5)
        with torch.inference_mode():
            q, p = (model(torch.tensor([text]))[0, -1:] for model in (small, large))
            defer = RULES[rule](p.softmax(-1), q.softmax(-1), tolerance)
            states = [SamplingState(params)]
            return target_distribution(drawn_from(p, states), drawn_from(q, states), defer)[0]

    cells = {
        (a, b): n * float(pi([1, 2])[a] * pi([1, 2, a])[b]) for a, b in product(range(4), repeat=2)
    }
    assert follows(counts, cells)


def test_a_plain_cascade_keeps_or_replaces_the_whole_answer(target, relative):
    params = SamplingParams(max_tokens=12)
    small = plain_generate(relative, PROMPT, params)
    large = plain_generate(target, PROMPT, params)
    assert small.token_ids != large.token_ids
    bar = mean_confidence(small.logprobs)
    kept = plain_cascade(relative, target, PROMPT, params, bar)
    assert (kept.token_ids, kept.small_passes, kept.large_passes) == (small.token_ids, 12, 0)
    replaced = plain_cascade(relative, target, PROMPT, params, bar + 1e-6)
    assert (replaced.token_ids, replaced.deferred) == (large.token_ids, 1.0)
    assert (replaced.small_passes, replaced.large_passes) == (12, 12)
    doubtful = plain_cascade(relative, target, PROMPT, params, bar, least_confidence)
    assert doubtful.token_ids == large.token_ids


def test_log_probabilities_are_those_of_the_model_before_temperature(target):
    done = plain_generate(target, PROMPT, SamplingParams(max_tokens=5, temperature=2.0, seed=1))
    with torch.inference_mode():
        logits = target(torch.tensor([PROMPT + done.token_ids]))[0]
    logprobs = logits.log_softmax(-1)
    wanted = [float(logprobs[len(PROMPT) - 1 + i, token]) for i, token in enumerate(done.token_ids)]
    assert done.logprobs == pytest.approx(wanted, abs=1e-4)


def test_confidences():
    assert mean_confidence([-1.0, -3.0]) == -2.0
    assert least_confidence([-1.0, -3.0]) == -3.0
    for confidence in (mean_confidence, least_confidence):
        with pytest.raises(InputError, match="confidence"):
            confidence([])


def test_the_end_token_ends_it(target, relative):
    params = SamplingParams(max_tokens=30)
    arguments = {"rule": RULES["always"], "tolerance": 0.0, "length": 5}
    whole = cascade_generate(target, target, PROMPT, params, **arguments).token_ids
    end = whole[13]
    done = cascade_generate(target, target, PROMPT, params, eos_ids={end}, **arguments)
    assert done.token_ids == whole[: whole.index(end) + 1]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"tolerance": 1.5}, "^tolerance: a tolerance of 1.5; give one from 0 to 1"),
        ({"tolerance": -0.1}, "tolerance of -0.1"),
        ({"length": 0}, "^length: drafts of 0 tokens; give 1 or more"),
    ],
)
def test_impossible_arguments_are_named(target, relative, change, what):
    arguments = {"rule": RULES["diff"], "tolerance": 0.1, "length": 2} | change
    with pytest.raises(ConfigurationError, match=what):
        cascade_generate(relative, target, PROMPT, SamplingParams(), **arguments)


def test_two_vocabularies_are_refused(target):
    with pytest.raises(
        ConfigurationError,
        match=r"^cascade: the small model knows 4 tokens and the large one 24; use",
    ):
        cascade_generate(
            tiny_pair()[0], target, PROMPT, SamplingParams(), rule=RULES["diff"], tolerance=0.1
        )


def test_what_a_cascade_cost_and_how_much_it_deferred(target, relative):
    def run(rule, tolerance, small=relative):
        params = SamplingParams(max_tokens=12, temperature=1.0, seed=1)
        return cascade_generate(
            small, target, PROMPT, params, rule=RULES[rule], tolerance=tolerance, length=3
        )

    trusting = run("chow", 1.0)  # all drafts stand: rounds of 4 tokens
    assert (trusting.drafted, trusting.accepted, trusting.deferred) == (9, 9, 0.0)
    assert (trusting.large_passes, trusting.small_passes) == (3, 12)
    assert trusting.cost(0.5) == 9.0
    strict = run("always", 0.0)
    assert strict.deferred == pytest.approx(1.0)
    assert strict.accepted < strict.drafted
    assert len(strict.token_ids) == strict.large_passes + strict.accepted == 12


@pytest.mark.parametrize("which", ["small", "large"])
def test_a_cascade_ends_where_the_shorter_context_ends(target, which):
    config = replace(target.config, max_position_embeddings=20)
    short = random_decoder(config, seed=1, std=0.3)
    pair = (short, target) if which == "small" else (target, short)
    done = cascade_generate(
        *pair, PROMPT, SamplingParams(max_tokens=50), rule=RULES["diff"], tolerance=0.1
    )
    assert len(PROMPT) + len(done.token_ids) == 20


def test_a_small_model_as_sure_as_it_has_to_be_is_kept():
    """Equality defers nothing, in numbers that are exact."""
    p = torch.tensor([0.25, 0.75, 0.0])
    q = torch.tensor([0.5, 0.25, 0.25])
    for rule, small, tolerance in (
        ("chow", q, 0.5), ("diff", p, 0.0), ("diff", q, 0.25), ("opt", p, 0.0), ("opt", q, 0.5),
    ):  # fmt: skip
        assert RULES[rule](p, small, tolerance).tolist() == [0.0], rule
    assert RULES["token"](p, q, 0.0).tolist() == [1.0, 0.0, 1.0]
