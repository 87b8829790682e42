"""The draft length follows the acceptance, and speculation that does not pay is switched off."""

from __future__ import annotations

import random

import pytest

from llmwright.inference.speculation import LengthController, best_length


def run(controller, acceptance, rounds, cost=0.2, seed=0):
    """(tokens, steps of work) of simulated rounds, each draft kept with that probability."""
    chance = random.Random(seed)
    tokens, work = 0, 0.0
    for _ in range(rounds):
        k = controller.next_length(cost)
        accepted = 0
        while accepted < k and chance.random() < acceptance:
            accepted += 1
        controller.update(k, accepted)
        tokens += accepted + 1
        work += 1.0 + k * cost
    return tokens, work


@pytest.mark.parametrize("acceptance", [0.6, 0.8, 0.95])
def test_the_length_comes_near_the_best(acceptance):
    controller = LengthController()
    run(controller, acceptance, 100, 0.1)
    lengths = []
    for n in range(200):
        run(controller, acceptance, 1, 0.1, seed=n)
        lengths.append(controller.next_length(0.1))
    assert abs(sum(lengths) / 200 - best_length(acceptance, 0.1, 16)) <= 2.5


@pytest.mark.parametrize("cost", [0.05, 0.25, 0.5, 1.0])
def test_text_that_cannot_be_guessed_costs_next_to_nothing(cost):
    tokens, work = run(LengthController(), 0.0, 300, cost)
    assert tokens / work > 0.95


@pytest.mark.parametrize("cost", [0.05, 0.25])
@pytest.mark.parametrize("acceptance", [0.02, 0.1, 0.2, 0.5, 0.9])
def test_it_never_loses_much_and_wins_where_there_is_something_to_win(acceptance, cost):
    tokens, work = run(LengthController(), acceptance, 1000, cost)
    assert tokens / work > 0.95
    if acceptance == 0.9:
        assert tokens / work > 1.8


def test_it_comes_back_when_the_text_becomes_easy():
    controller = LengthController()
    run(controller, 0.0, 300)
    tokens, _ = run(controller, 1.0, 300)
    assert tokens > 900


def test_a_round_without_a_proposal_teaches_nothing():
    controller = LengthController()
    before = controller.acceptance
    controller.update(0, 0)
    assert controller.acceptance == before


def test_a_probe_for_which_there_was_no_proposal_is_asked_for_again():
    controller = LengthController()
    run(controller, 0.0, 300)
    while not controller.next_length(0.2):
        pass
    assert [controller.next_length(0.2) for _ in range(3)] == [2, 2, 2]
    controller.update(2, 0)
    assert controller.next_length(0.2) == 0


def test_equal_histories_give_equal_lengths():
    first, second = LengthController(), LengthController()
    assert run(first, 0.5, 50) == run(second, 0.5, 50)


def test_a_dearer_draft_is_shorter():
    controller = LengthController()
    run(controller, 0.9, 50)
    lengths = [controller.next_length(cost) for cost in (0.01, 0.1, 0.3)]
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) == 3


def test_the_estimate_begins_at_a_half_and_follows_what_was_judged():
    controller = LengthController()
    assert controller.acceptance == 0.5
    controller.update(4, 2)  # two kept, one rejected, one not judged
    assert controller.acceptance == pytest.approx(3 / 5)
    controller.update(3, 3)  # the round before counts nine tenths by now
    assert controller.acceptance == pytest.approx((0.9 * 2 + 3 + 1) / (0.9 * 3 + 3 + 2))


def test_a_gain_of_less_than_6_percent_is_not_worth_a_draft():
    """One draft that is kept every other time gives 1.5 tokens for 1 + c."""
    assert LengthController().next_length(1.5 / 1.06 - 1 - 1e-6) == 1
    assert LengthController().next_length(1.5 / 1.06 - 1 + 1e-6) == 0


def test_drafts_that_cost_nothing_are_as_long_as_may_be():
    assert LengthController().next_length(0.0) == 16


def waits(controller, outcomes):
    """Plain steps before each probe, the probes ending as ``outcomes`` say."""
    found = []
    for accepted in outcomes:
        found.append(0)
        while not (k := controller.next_length(1.0)):
            controller.update(0, 0)
            found[-1] += 1
        assert k == 2
        controller.update(k, accepted)
    return found


def test_probes_become_rare_while_they_fail_and_frequent_when_one_succeeds():
    failing = waits(LengthController(), [0, 0, 0, 0, 1, 0])
    assert failing == [7, 15, 31, 63, 127, 127]
    assert waits(LengthController(), [0, 0, 2, 0]) == [7, 15, 31, 7]
