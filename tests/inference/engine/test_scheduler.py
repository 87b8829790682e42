"""Who goes first, who gives way, and what a pass may hold; no model is needed for that."""

from __future__ import annotations

from llmwright.core import SamplingParams
from llmwright.inference.blocks import BlockManager
from llmwright.inference.decoding import SamplingState
from llmwright.inference.engine.request import Request, Sequence
from llmwright.inference.engine.scheduler import Scheduler
from llmwright.inference.speculation import Draft


def request(length, *, priority=0, tenant=None, answer=8, n=1):
    params = SamplingParams(max_tokens=answer, temperature=float(n > 1), n=n)
    made = Request(
        list(range(length)),
        params,
        limit=length + answer,
        priority=priority,
        tenant=tenant,
    )
    made.sequences = [Sequence(made, list(made.prompt), SamplingState(params), None)]
    return made


def scheduler(blocks=100, block_size=4, **options):
    manager = BlockManager(blocks, block_size, prefix_caching=False)
    return Scheduler(manager, **{"max_sequences": 4, "token_budget": 10, **options})


def compute(batch):
    """What a pass would leave: the tokens read, and one more where a text is read to its end."""
    for sequence, count in batch.rows:
        sequence.computed += count
        if not sequence.pending:
            sequence.tokens.append(0)


def planned(batch, *requests):
    counts = {sequence.request: count for sequence, count in batch.rows}
    return [counts.get(r, 0) for r in requests]


def test_a_pass_holds_at_most_its_budget_and_answers_before_prompts():
    plan = scheduler()
    first, second = request(4), request(30)
    plan.add(first)
    plan.add(second)
    seen = []
    for _ in range(5):
        batch = plan.schedule()
        assert sum(count for _, count in batch.rows) <= 10
        seen.append(planned(batch, first, second))
        compute(batch)
    assert seen == [[4, 6], [1, 9], [1, 9], [1, 6], [1, 1]]


def test_lower_priority_numbers_go_first_and_may_take_the_room_of_others():
    plan = scheduler(blocks=6, token_budget=24)
    low = request(16, priority=1)
    plan.add(low)
    compute(plan.schedule())
    assert low in plan.running
    high = request(16, priority=0)
    plan.add(high)
    batch = plan.schedule()
    assert plan.running == [high]
    assert plan.waiting == [low]
    assert plan.preemptions == 1
    assert planned(batch, high, low) == [16, 0]
    assert low.sequences[0].computed == 0
    assert low.sequences[0].tokens == [*range(16), 0]  # what it had said is kept


def test_equal_priority_waits_its_turn():
    plan = scheduler(blocks=6, token_budget=24)
    first, second = request(16), request(16)
    plan.add(first)
    compute(plan.schedule())
    plan.add(second)
    plan.schedule()
    assert plan.running == [first]
    plan.remove(first)
    plan.schedule()
    assert plan.running == [second]


def test_a_tenant_with_many_requests_does_not_keep_another_waiting():
    plan = scheduler(max_sequences=1, token_budget=8)
    many = [request(8, tenant="many") for _ in range(5)]
    one = request(8, tenant="one")
    for r in (*many, one):
        plan.add(r)
    order = []
    while plan.waiting or plan.running:
        compute(plan.schedule())
        order.append(plan.running[0])
        plan.remove(plan.running[0])
    assert order.index(one) == 1  # after the first of the others, not after all of them


def test_a_tenant_gains_nothing_by_having_been_away():
    plan = scheduler(max_sequences=1, token_budget=8)
    first, second = request(8, tenant="a"), request(8, tenant="a")
    plan.add(first)
    compute(plan.schedule())
    plan.add(second)
    late = [request(8, tenant="b") for _ in range(3)]
    for r in late:
        plan.add(r)
    order = []
    while plan.waiting or plan.running:
        order.append(plan.running[0]) if plan.running else None
        if plan.running:
            plan.remove(plan.running[0])
        compute(plan.schedule())
    assert order.index(second) == 1  # lifted to a's count, b is served in its turn


def test_when_blocks_run_out_the_last_in_order_gives_way_and_the_first_goes_on():
    plan = scheduler(blocks=5, block_size=4, token_budget=24)
    first, second = request(7), request(7)
    plan.add(first)
    plan.add(second)
    for _ in range(6):
        batch = plan.schedule()
        assert planned(batch, first)[0] >= 1
        compute(batch)
    assert first in plan.running
    assert plan.preemptions >= 1


def test_all_blocks_come_back():
    plan = scheduler(blocks=8, token_budget=6)
    made = [request(9, priority=n % 2) for n in range(4)]
    for r in made:
        plan.add(r)
    for _ in range(12):
        compute(plan.schedule())
    for r in made:
        plan.remove(r)
    assert plan._manager.free == 8


def test_a_branch_that_waits_and_a_budget_that_is_used_up_compute_nothing():
    plan = scheduler(token_budget=4)
    first, second = request(4), request(4)
    plan.add(first)
    plan.add(second)
    compute(plan.schedule())
    first.sequences[0].computed += 1  # nothing of it is pending
    assert planned(plan.schedule(), first, second) == [0, 4]


def test_drafts_count_and_go_where_they_do_not_fit():
    plan = scheduler(token_budget=4, max_sequences=4)
    first, second = request(1), request(1)
    for r in (first, second):
        plan.add(r)
        compute(plan.schedule())
    first.sequences[0].draft, second.sequences[0].draft = Draft((1, 2)), Draft((1, 2))
    assert planned(plan.schedule(), first, second) == [3, 1]
    assert first.sequences[0].draft is not None
    assert second.sequences[0].draft is None


def test_more_branches_than_sequences_are_not_let_in():
    plan = scheduler(max_sequences=4)
    many = [request(2, n=n) for n in (2, 2, 1)]
    for r in many:
        plan.add(r)
    compute(plan.schedule())
    assert (plan.running, plan.waiting) == (many[:2], many[2:])


def test_what_was_found_in_the_cache_is_counted_once():
    manager = BlockManager(6, 4)
    plan = Scheduler(manager, max_sequences=4, token_budget=40)
    first = request(13)
    plan.add(first)
    batch = plan.schedule()
    compute(batch)
    manager.register(first.sequences[0].table, first.sequences[0].tokens, 13)
    assert first.cached_tokens == 0
    plan._preempt(first, batch)
    assert (first.sequences[0].computed, batch.rows) == (0, [])
    assert planned(plan.schedule(), first) == [14 - 12]  # its own blocks are still there
    assert first.cached_tokens == 0
    plan.remove(first)
    second = request(13)
    plan.add(second)
    plan.schedule()
    assert second.cached_tokens == 12
    plan._preempt(second, batch)
    assert plan.preemptions == 2
