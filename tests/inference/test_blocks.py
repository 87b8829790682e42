"""The block manager against a model of itself: every table reads back what was written to it."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from llmwright.inference.blocks import BlockManager, Table

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=20)


class Sequence:
    def __init__(self, tokens: list[int], root: str, table: Table, computed: int) -> None:
        self.tokens, self.root, self.table, self.computed = tokens, root, table, computed


class Blocks(RuleBasedStateMachine):
    """``memory`` is what a runner would hold: (root, text up to and with this token) by slot."""

    sequences = Bundle("sequences")

    @initialize(blocks=st.integers(1, 12), size=st.integers(1, 4), caching=st.booleans())
    def begin(self, blocks: int, size: int, caching: bool) -> None:
        self.manager = BlockManager(blocks, size, prefix_caching=caching)
        self.memory: dict[int, tuple[str, tuple[int, ...]]] = {}
        self.live: list[Sequence] = []

    def slot(self, table: Table, place: int) -> int:
        size = self.manager.block_size
        return table.blocks[place // size] * size + place % size

    def check(self, sequence: Sequence) -> None:
        for place in range(sequence.computed):
            text = (sequence.root, tuple(sequence.tokens[: place + 1]))
            assert self.memory[self.slot(sequence.table, place)] == text

    @rule(target=sequences, tokens=TOKENS, root=st.sampled_from("ab"))
    def join(self, tokens: list[int], root: str) -> Sequence:
        table = self.manager.match(tokens, root)
        sequence = Sequence(tokens, root, table, len(table.blocks) * self.manager.block_size)
        assert sequence.computed < len(tokens)
        self.live.append(sequence)
        self.check(sequence)
        return sequence

    @rule(sequence=sequences, count=st.integers(1, 6), more=st.lists(st.integers(0, 2), max_size=6))
    def compute(self, sequence: Sequence, count: int, more: list[int]) -> None:
        sequence.tokens = sequence.tokens + more
        begin, end = sequence.computed, min(sequence.computed + count, len(sequence.tokens))
        needed = self.manager.needed(sequence.table, begin, end)
        if needed > self.manager.free:
            return
        before = self.manager.free
        copies = self.manager.reserve(sequence.table, begin, end)
        assert before - self.manager.free == needed
        size = self.manager.block_size
        for source, target in copies:
            for i in range(size):
                if source * size + i in self.memory:
                    self.memory[target * size + i] = self.memory[source * size + i]
        for place in range(begin, end):
            text = (sequence.root, tuple(sequence.tokens[: place + 1]))
            self.memory[self.slot(sequence.table, place)] = text
        sequence.computed = end
        self.manager.register(sequence.table, sequence.tokens, end)

    @rule(target=sequences, sequence=sequences)
    def fork(self, sequence: Sequence) -> Sequence:
        other = Sequence(
            list(sequence.tokens),
            sequence.root,
            self.manager.fork(sequence.table),
            sequence.computed,
        )
        self.live.append(other)
        return other

    @rule(sequence=sequences, count=st.integers(1, 4))
    def reject_drafts(self, sequence: Sequence, count: int) -> None:
        begin = sequence.computed
        if self.manager.needed(sequence.table, begin, begin + count) > self.manager.free:
            return
        copies = self.manager.reserve(sequence.table, begin, begin + count)
        size = self.manager.block_size
        for source, target in copies:
            for i in range(size):
                if source * size + i in self.memory:
                    self.memory[target * size + i] = self.memory[source * size + i]
        for place in range(begin, begin + count):
            self.memory[self.slot(sequence.table, place)] = ("draft", (place,))
        self.manager.truncate(sequence.table, begin)

    @rule(sequence=consumes(sequences))
    def leave(self, sequence: Sequence) -> None:
        self.manager.release(sequence.table)
        self.live.remove(sequence)

    @precondition(lambda self: hasattr(self, "manager"))
    @rule()
    def forget(self) -> None:
        self.manager.forget()
        assert not self.manager.match([0] * 9).blocks

    @invariant()
    def nothing_is_lost_or_mixed_up(self) -> None:
        if not hasattr(self, "manager"):
            return
        held = {block for sequence in self.live for block in sequence.table.blocks}
        assert len(held) + self.manager.free == self.manager.blocks
        for sequence in self.live:
            self.check(sequence)

    def teardown(self) -> None:
        if hasattr(self, "manager"):
            for sequence in self.live:
                self.manager.release(sequence.table)
            assert self.manager.free == self.manager.blocks


TestBlocks = Blocks.TestCase
TestBlocks.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_the_longest_unused_block_goes_first() -> None:
    manager = BlockManager(3, 2)
    for tokens in ([1, 1], [2, 2], [3, 3]):
        table = manager.match(tokens)
        manager.reserve(table, 0, 2)
        manager.register(table, tokens, 2)
        manager.release(table)
    manager.release(manager.match([1, 1, 0]))  # used again: now [2, 2] is the oldest
    table = manager.match([9, 9])
    manager.reserve(table, 0, 2)
    assert len(manager.match([1, 1, 0]).blocks) == 1
    assert len(manager.match([2, 2, 0]).blocks) == 0
    assert len(manager.match([3, 3, 0]).blocks) == 1


def test_of_one_text_the_end_goes_before_the_beginning() -> None:
    manager = BlockManager(3, 1)
    table = manager.match([1, 2, 3])
    manager.reserve(table, 0, 3)
    manager.register(table, [1, 2, 3], 3)
    manager.release(table)
    taken = manager.match([7])
    manager.reserve(taken, 0, 1)
    assert len(manager.match([1, 2, 3, 0]).blocks) == 2


def test_the_last_token_is_always_computed() -> None:
    manager = BlockManager(4, 2)
    table = manager.match([5, 6, 7, 8])
    manager.reserve(table, 0, 4)
    manager.register(table, [5, 6, 7, 8], 4)
    assert len(manager.match([5, 6, 7, 8]).blocks) == 1
    assert len(manager.match([5, 6, 7, 8, 9]).blocks) == 2
