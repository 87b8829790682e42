"""Adapters beside the weights give what merged weights give, several in one batch."""

from __future__ import annotations

import copy

import pytest
import torch
from native_models import decoder_of
from native_steps import Text, advance, blocks_for, read

from llmwright.inference.native import NativeRunner
from llmwright.modeling import Adapter

IDS = torch.randint(0, 97, (30,), generator=torch.Generator().manual_seed(2)).tolist()
ALL = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
       "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip


def adapter(decoder, names, rank, seed) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    wanted = [f"model.layers.{n}.{name}" for n in range(3) for name in names] + ["lm_head"]
    factors = {}
    for name in wanted:
        out, inputs = decoder.get_submodule(name).weight.shape
        a = torch.randn(rank, inputs, generator=generator) * 0.2
        factors[name] = (a, torch.randn(out, rank, generator=generator) * 0.2)
    return Adapter(factors, "made here")


def merged(decoder, adapter: Adapter):
    decoder = copy.deepcopy(decoder)
    with torch.no_grad():
        for name, (a, b) in adapter.factors.items():
            decoder.get_submodule(name).weight += b @ a
    return decoder


def test_each_sequence_of_a_batch_has_its_own_adapter():
    decoder = decoder_of("float32")
    adapters = {"wide": adapter(decoder, ALL, 5, 1), "narrow": adapter(decoder, ALL[:2], 8, 2)}
    runner = NativeRunner(decoder, 32, threads=2)
    for name, one in adapters.items():
        runner.add_adapter(name, one)
    names = ["wide", None, "narrow", "wide"]
    texts = [Text(IDS, blocks_for(30, 4 * n), adapter=name) for n, name in enumerate(names)]
    for count in (7, 1, 22):
        advance(runner, [(text, count) for text in texts])
    for text in texts:
        base = decoder if text.adapter is None else merged(decoder, adapters[text.adapter])
        with torch.inference_mode():
            expected = base(torch.tensor([IDS]))[0]
        torch.testing.assert_close(torch.cat(text.logits), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int4"])
def test_an_adapter_does_not_touch_its_neighbours(form):
    decoder = decoder_of(form)
    runner = NativeRunner(decoder, 32, threads=2)
    alone = read(runner, Text(IDS, blocks_for(30, 0)), 30)
    runner.add_adapter("a", adapter(decoder_of("float32"), ALL, 4, 3))
    both = [Text(IDS, [1, 2], adapter="a"), Text(IDS, [5, 6])]
    advance(runner, [(text, 30) for text in both])
    assert torch.equal(both[1].logits[0], alone)
    assert not torch.allclose(both[0].logits[0], alone)
    assert torch.equal(read(runner, Text(IDS, [8, 9], adapter="a"), 4), both[0].logits[0])
