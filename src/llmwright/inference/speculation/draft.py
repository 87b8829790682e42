"""Drafts from a second, smaller model of the same vocabulary.

The draft model writes k tokens one by one, each drawn as the target would draw (same
temperature, filters, penalties), and remembers the distributions q_1 ... q_k they came from. It
keeps keys and values of its own, in blocks of its own runner. After a round:

- it rolls its cache back to the last token that was kept, by comparing what it wrote with what
  stands now;
- the last draft was drawn but never read, so after a full acceptance the next round reads two
  tokens, that draft and the bonus. (Leaving it out is the classical mistake: everything still
  runs, with a hole in the draft's cache, and only the acceptance rate suffers.)

Several sequences share each forward pass, and prompts that begin alike share blocks. k drafts
cost k passes of the small model, the first of them also reading what is new. Where blocks run
out, the sequences that have waited longest lose theirs, and what has no room gets no draft.
(Leviathan et al., 2022, arXiv 2211.17192; Chen et al., 2023, arXiv 2302.01318.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from llmwright.inference.blocks import BlockManager, Table
from llmwright.inference.decoding import distribution_after
from llmwright.inference.runner import Runner, Step
from llmwright.inference.runners import RunnerKind, make_runner
from llmwright.inference.speculation.acceptance import draw
from llmwright.inference.speculation.proposer import Ask, Draft
from llmwright.modeling import Model, ModelConfig

_CHUNK = 512  # tokens of a prompt read in one pass


@dataclass(slots=True)
class _Text:
    """What the draft model knows of one sequence: the tokens whose keys and values it holds."""

    table: Table
    read: list[int]
    sure: int = 0  # leading tokens of ``read`` that stood when last asked: only drafts may go
    pending: list[int] = field(default_factory=list)  # to be read in the next pass

    def roll_back(self, token_ids: Sequence[int]) -> None:
        """Keep what still stands of what was read, at most all but the last of ``token_ids``."""
        most = min(len(self.read), len(token_ids) - 1)
        kept = min(self.sure, most)
        while kept < most and self.read[kept] == token_ids[kept]:
            kept += 1
        del self.read[kept:]
        self.sure = len(token_ids)
        self.pending = list(token_ids[kept:])


class DraftModelProposer:
    """A small model that guesses for a larger one; see ``proposer.Proposer``.

    It computes with ``runner``, whose blocks are its cache; ``draft_model`` makes one.
    """

    def __init__(self, runner: Runner, config: ModelConfig) -> None:
        self._runner = runner
        self._config = config
        self._manager = BlockManager(runner.blocks, runner.block_size)
        self._texts: dict[int, _Text] = {}  # the one asked for longest ago first

    @torch.inference_mode()
    def propose(self, asks: Sequence[Ask]) -> list[Draft]:
        """``k`` passes, where k is the largest length asked for."""
        limit = self._config.max_position_embeddings
        wanted = [min(ask.length, limit - len(ask.token_ids)) for ask in asks]
        keys = {ask.key for ask in asks}
        for i, ask in enumerate(asks):
            if wanted[i] <= 0 or not self._prepare(ask, wanted[i], keys):
                wanted[i] = 0
        drafts: list[list[int]] = [[] for _ in asks]
        drawn_from: list[list[Tensor]] = [[] for _ in asks]
        for place in range(max(wanted, default=0)):
            active = [i for i, length in enumerate(wanted) if place < length]
            logits = self._read([self._texts[asks[i].key] for i in active])
            for row, i in zip(logits, active, strict=True):
                state = asks[i].state
                q = row if state is None else distribution_after(row, state, drafts[i])
                if state is None or state.generator is None:
                    token = int(q.argmax())
                else:
                    token = draw(q, state.generator)
                    drawn_from[i].append(q)
                drafts[i].append(token)
                self._texts[asks[i].key].pending = [token]
        return [
            Draft(tuple(chosen), torch.stack(q) if q else None)
            for chosen, q in zip(drafts, drawn_from, strict=True)
        ]

    def forget(self, key: int) -> None:
        text = self._texts.pop(key, None)
        if text is not None:
            self._manager.release(text.table)

    def _prepare(self, ask: Ask, length: int, keep: set[int]) -> bool:
        """Bring what is known of a sequence up to date, with blocks for what will be read: all
        drafts but the last. False where there are none, even without the texts beside ``keep``."""
        manager = self._manager
        text = self._texts.pop(ask.key, None)
        if text is None:
            table = manager.match(ask.token_ids)
            text = _Text(table, list(ask.token_ids[: len(table.blocks) * manager.block_size]))
        self._texts[ask.key] = text  # now the last in line to lose its blocks
        text.roll_back(ask.token_ids)
        manager.truncate(text.table, len(text.read))
        begin, end = len(text.read), len(ask.token_ids) + length - 1
        while manager.needed(text.table, begin, end) > manager.free:
            oldest = next((key for key in self._texts if key not in keep), None)
            if oldest is None:
                self.forget(ask.key)
                return False
            self.forget(oldest)
        copies = manager.reserve(text.table, begin, end)
        if copies:
            self._runner.copy_blocks(copies)
        return True

    def _read(self, texts: Sequence[_Text]) -> Tensor:
        """Read what is pending; logits [texts, vocab] after the last token of each."""
        for text in texts:
            while len(text.pending) > _CHUNK:
                rest = text.pending[_CHUNK:]
                del text.pending[_CHUNK:]
                self._forward([text])
                text.pending = rest
        return self._forward(texts)

    def _forward(self, texts: Sequence[_Text]) -> Tensor:
        size = self._runner.block_size
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        starts = [0]
        for text in texts:
            begin = len(text.read)
            text.read += text.pending
            tokens += text.pending
            places = range(begin, len(text.read))
            positions += places
            slots += [text.table.blocks[place // size] * size + place % size for place in places]
            starts.append(len(tokens))
        most = max(len(text.table.blocks) for text in texts)
        tables = [t.table.blocks + [0] * (most - len(t.table.blocks)) for t in texts]
        ends = torch.tensor(starts)
        step = Step(
            torch.tensor(tokens),
            torch.tensor(positions),
            torch.tensor(slots),
            ends,
            torch.tensor([len(text.read) for text in texts]),
            torch.tensor(tables, dtype=torch.int32),
            ends[1:] - 1,
        )
        logits = self._runner.forward(step).logits
        for text in texts:  # full blocks of what stands may be shared; drafts may yet go
            self._manager.register(text.table, text.read, min(text.sure, len(text.read)))
        return logits


def draft_model(
    model: Model, *, cache_tokens: int = 16_384, runner: RunnerKind = "auto"
) -> DraftModelProposer:
    """A proposer over ``model`` with room for ``cache_tokens`` tokens of all sequences together.

    Raises ``CapacityError`` where that does not fit into the memory that is free.
    """
    made, _ = make_runner(
        model, runner, cache_tokens=cache_tokens, max_sequences=32, token_budget=_CHUNK
    )
    return DraftModelProposer(made, model.config)
