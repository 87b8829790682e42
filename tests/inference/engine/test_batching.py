"""The tensors of a pass, row by row."""

from __future__ import annotations

import torch

from llmwright.core import SamplingParams
from llmwright.inference.blocks import Table
from llmwright.inference.decoding import SamplingState, search_for
from llmwright.inference.engine import Request, SoftPrompt
from llmwright.inference.engine.batching import build_step
from llmwright.inference.engine.request import Sequence
from llmwright.inference.speculation import Draft


def sequence(prompt, blocks, computed=0, draft=None, params=None, **options):
    params = params or SamplingParams()
    made = Request(prompt, params, limit=50, **options)
    return Sequence(
        made, list(made.prompt), SamplingState(params), None,
        table=Table(blocks), computed=computed, draft=draft,
    )  # fmt: skip


def test_prompts_in_pieces_answers_and_drafts():
    rows = [
        (sequence([10, 11, 12, 13, 14], [3, 1], computed=1), 3),  # not to its end
        (sequence([20, 21, 22], [5], computed=2), 1),
        (sequence([30, 31, 32, 33, 34], [2, 0, 4], computed=4, draft=Draft((7, 8))), 3),
        (sequence([40, 41], [6]), 2),
    ]
    step, counts = build_step(rows, 4)
    assert step.token_ids.tolist() == [11, 12, 13, 22, 34, 7, 8, 40, 41]
    assert step.positions.tolist() == [1, 2, 3, 2, 4, 5, 6, 0, 1]
    assert step.slots.tolist() == [13, 14, 15, 22, 0, 1, 2, 24, 25]
    assert step.starts.tolist() == [0, 3, 4, 7, 9]
    assert step.lengths.tolist() == [4, 3, 7, 2]
    assert step.tables.tolist() == [[3, 1, 0], [5, 0, 0], [2, 0, 4], [6, 0, 0]]
    assert counts == [0, 1, 3, 1]
    assert step.logits_at.tolist() == [3, 4, 5, 6, 8]
    assert (step.adapters, step.embedded_rows, step.embeddings) == ((), None, None)
    assert (step.want_hidden, step.limits) == (False, None)
    wanted = {"tables": torch.int32}
    for name in ("token_ids", "positions", "slots", "starts", "lengths", "tables", "logits_at"):
        assert getattr(step, name).dtype == wanted.get(name, torch.int64), name
        assert getattr(step, name).is_contiguous(), name


def test_nothing_is_wanted_while_prompts_are_read():
    step, counts = build_step([(sequence([1, 2, 3], [0]), 2)], 4)
    assert (counts, step.logits_at.tolist(), step.logits_at.dtype) == ([0], [], torch.int64)


def test_vectors_adapters_lengths_and_hidden_states():
    vectors = torch.arange(15.0).view(5, 3)
    soft = SoftPrompt("five", vectors)
    contrastive = SamplingParams(penalty_alpha=0.5, top_k=3)
    search = search_for(SamplingState(contrastive), 5)
    rows = [
        (sequence([1, 2], [0]), 2),
        (sequence([8, 9], [2, 3], computed=3, soft_prompt=soft, adapter="a"), 4),
        (sequence([8, 9], [4, 5], computed=5, soft_prompt=soft, length_matters=True), 2),
        (sequence([8, 9], [6, 7], soft_prompt=soft, params=contrastive, search=search), 2),
    ]
    step, counts = build_step(rows, 4)
    assert step.token_ids.tolist() == [1, 2, 0, 0, 8, 9, 8, 9, 0, 0]
    assert step.embedded_rows.tolist() == [2, 3, 8, 9]
    assert torch.equal(step.embeddings, vectors[[3, 4, 0, 1]])
    assert step.adapters == (None, "a", None, None)
    assert step.limits.tolist() == [50] * 10 and step.limits.dtype == torch.int64
    assert step.want_hidden
    assert counts == [1, 1, 1, 0]
