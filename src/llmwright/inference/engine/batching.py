"""From the scheduler's rows to the tensors of one pass."""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np
import torch

from llmwright.inference.engine.request import Sequence
from llmwright.inference.runner import Step


def build_step(rows: Items[tuple[Sequence, int]], block_size: int) -> tuple[Step, list[int]]:
    """The ``Step`` for ``rows``, (sequence, new tokens) each, and how many rows of logits each
    sequence has in its output: none while a prompt is not read to its end, one after the last
    token, and one more for every draft that is checked."""
    tokens: list[int] = []
    wanted: list[int] = []
    counts: list[int] = []
    embedded_rows: list[int] = []
    vectors: list[torch.Tensor] = []
    for sequence, new in rows:
        begin, end = sequence.computed, sequence.computed + new
        soft = sequence.request.soft_prompt
        if soft is not None and begin < len(soft):
            covered = min(end, len(soft))
            embedded_rows += range(len(tokens), len(tokens) + covered - begin)
            vectors.append(soft.vectors[begin:covered])
        tokens += sequence.tokens[begin:end]
        count = 0
        if end >= len(sequence.tokens):
            if sequence.draft is not None:
                tokens += sequence.draft.tokens
            count = 1 + end - len(sequence.tokens)
            wanted += range(len(tokens) - count, len(tokens))
        counts.append(count)
    news = np.array([new for _, new in rows])
    begins = np.array([sequence.computed for sequence, _ in rows])
    starts = np.concatenate(([0], news.cumsum()))
    positions = np.arange(len(tokens)) + np.repeat(begins - starts[:-1], news)
    tables = np.zeros((len(rows), max(len(s.table.blocks) for s, _ in rows)), np.int32)
    for row, (sequence, _) in zip(tables, rows, strict=True):
        row[: len(sequence.table.blocks)] = sequence.table.blocks
    owner = np.repeat(np.arange(len(rows)), news)
    slots = tables[owner, positions // block_size].astype(np.int64) * block_size
    slots += positions % block_size
    adapters = tuple(sequence.request.adapter for sequence, _ in rows)
    searching = (s.request.search for s, _ in rows)
    limits = None
    if any(sequence.request.length_matters for sequence, _ in rows):
        limits = torch.from_numpy(np.repeat([s.request.limit for s, _ in rows], news))
    step = Step(
        token_ids=torch.tensor(tokens),
        positions=torch.from_numpy(positions),
        slots=torch.from_numpy(slots),
        starts=torch.from_numpy(starts),
        lengths=torch.from_numpy(begins + news),
        tables=torch.from_numpy(tables),
        logits_at=torch.tensor(wanted, dtype=torch.int64),
        adapters=adapters if any(adapters) else (),
        embedded_rows=torch.tensor(embedded_rows) if vectors else None,
        embeddings=torch.cat(vectors) if vectors else None,
        want_hidden=any(search is not None and search.needs_hidden for search in searching),
        limits=limits,
    )
    return step, counts
