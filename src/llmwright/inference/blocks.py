"""The cache as pages: who holds which block, which blocks can be shared, which go first.

Memory for keys and values is cut into blocks of ``block_size`` tokens. A sequence has a table of
block numbers, so it grows a block at a time, wastes at most the rest of its last one, and shares
blocks with others: every block counts its holders, and one that is shared is copied before it is
written (Kwon et al., "Efficient Memory Management for Large Language Model Serving with
PagedAttention", SOSP 2023, arXiv 2309.06180).

Prefix caching. A full block is registered under (the entry of the block before it, its tokens), so
an entry stands for the whole text up to its end, and a look-up compares tokens and not only their
hash. A block that nobody holds keeps its content until the space is wanted; the one
unused for longest goes first, and of one sequence the later blocks before the earlier, since
an entry cannot be reached without those before it.

This file knows block numbers and token ids. It holds no tensor and never waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import count


@dataclass(slots=True)
class Entry:
    """A registered block: the text from the beginning up to the end of this block."""

    key: tuple[Hashable, tuple[int, ...]]
    block: int
    serial: int  # never used again, so it stands for this text in the keys of what follows


@dataclass(slots=True)
class Table:
    """The blocks of one sequence, in order, and how far they are registered."""

    blocks: list[int] = field(default_factory=list)
    registered: int = 0  # leading blocks that have been offered for sharing
    parent: Hashable = None  # the serial of the last of them, or the root


class BlockManager:
    """Hands out ``blocks`` blocks of ``block_size`` tokens."""

    def __init__(self, blocks: int, block_size: int, *, prefix_caching: bool = True) -> None:
        self.blocks = blocks
        self.block_size = block_size
        self._caching = prefix_caching
        self._holders = [0] * blocks
        self._entry_of: list[Entry | None] = [None] * blocks
        self._entries: dict[tuple[Hashable, tuple[int, ...]], Entry] = {}
        self._serials = count()
        # Blocks without a holder, the next to be given out first.
        self._unused: OrderedDict[int, None] = OrderedDict((i, None) for i in range(blocks))

    @property
    def free(self) -> int:
        """Blocks that can be handed out, those with a remembered content included."""
        return len(self._unused)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold ``tokens`` tokens."""
        return -(-tokens // self.block_size)

    def match(self, tokens: Sequence[int], root: Hashable = None) -> Table:
        """A table that begins with the blocks that hold a beginning of ``tokens`` already.

        At least the last token is left out: it has to be computed for its logits. ``root`` keeps
        apart what equal tokens do not mean the same for, such as another adapter.
        """
        table = Table(parent=root)
        if not self._caching:
            return table
        size = self.block_size
        for begin in range(0, (len(tokens) - 1) // size * size, size):
            entry = self._entries.get((table.parent, tuple(tokens[begin : begin + size])))
            if entry is None:
                break
            self._hold(entry.block)
            table.blocks.append(entry.block)
            table.parent = entry.serial
        table.registered = len(table.blocks)
        return table

    def needed(self, table: Table, begin: int, end: int) -> int:
        """Blocks that ``reserve`` would take."""
        shared = begin < end and self._shared_at(table, begin)
        return max(0, self.blocks_for(end) - len(table.blocks)) + shared

    def reserve(self, table: Table, begin: int, end: int) -> list[tuple[int, int]]:
        """Make room for tokens ``begin`` to ``end`` of a sequence, which will be written now.

        Gives the copies (source, target) to be made first: a block that others hold too is
        replaced by a copy. Call it only when ``needed`` is at most ``free``.
        """
        copies = []
        if begin < end and self._shared_at(table, begin):
            place = begin // self.block_size
            source, target = table.blocks[place], self._take()
            self._release(source)
            table.blocks[place] = target
            copies.append((source, target))
        while len(table.blocks) < self.blocks_for(end):
            table.blocks.append(self._take())
        return copies

    def register(self, table: Table, tokens: Sequence[int], computed: int) -> None:
        """Offer the full blocks among the first ``computed`` tokens for sharing."""
        if not self._caching:
            return
        size = self.block_size
        while (table.registered + 1) * size <= computed:
            begin = table.registered * size
            key = (table.parent, tuple(tokens[begin : begin + size]))
            block = table.blocks[table.registered]
            entry = self._entries.get(key)
            if entry is None:  # else an equal block is there already, and what follows hangs on it
                entry = Entry(key, block, next(self._serials))
                self._entries[key] = entry
                self._entry_of[block] = entry
            table.parent = entry.serial
            table.registered += 1

    def fork(self, table: Table) -> Table:
        """The same blocks for one more sequence."""
        for block in table.blocks:
            self._hold(block)
        return Table(list(table.blocks), table.registered, table.parent)

    def truncate(self, table: Table, tokens: int) -> None:
        """Give back the blocks beyond the first ``tokens`` tokens."""
        while len(table.blocks) > self.blocks_for(tokens):
            self._release(table.blocks.pop())

    def release(self, table: Table) -> None:
        """Give back all blocks; the table is empty afterwards."""
        self.truncate(table, 0)
        table.registered, table.parent = 0, None

    def forget(self) -> None:
        """Drop every remembered content, as after new weights. What is held stays held."""
        for entry in self._entries.values():
            self._entry_of[entry.block] = None
        self._entries.clear()

    def _shared_at(self, table: Table, token: int) -> bool:
        place = token // self.block_size
        return place < len(table.blocks) and self._holders[table.blocks[place]] > 1

    def _hold(self, block: int) -> None:
        self._unused.pop(block, None)
        self._holders[block] += 1

    def _take(self) -> int:
        block, _ = self._unused.popitem(last=False)
        entry = self._entry_of[block]
        if entry is not None:
            del self._entries[entry.key]
            self._entry_of[block] = None
        self._holders[block] = 1
        return block

    def _release(self, block: int) -> None:
        self._holders[block] -= 1
        if self._holders[block] == 0:
            self._unused[block] = None
            if self._entry_of[block] is None:
                self._unused.move_to_end(block, last=False)  # nothing to remember: use it first
