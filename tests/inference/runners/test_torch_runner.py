"""PyTorch's runner computes what the compiled kernels do, whatever stands in a pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from native_models import GROUPED, decoder_of
from native_steps import Text, step_of

from llmwright.inference.native import NativeRunner, native_available
from llmwright.inference.runners import TorchRunner
from llmwright.modeling import Adapter, DynamicScaling, random_decoder

pytestmark = pytest.mark.skipif(not native_available(), reason=native_available().reason)
IDS = torch.randint(0, 97, (60,), generator=torch.Generator().manual_seed(6)).tolist()


def adapter(decoder, seed, *names) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for name in names:
        out, inputs = decoder.get_submodule(name).weight.shape
        a = torch.randn(seed, inputs, generator=generator) * 0.3
        factors[name] = (a, torch.randn(out, seed, generator=generator) * 0.3)
    return Adapter(factors, "made here")


def same(ours, theirs):
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=2e-4)
    assert (ours.hidden is None) == (theirs.hidden is None)
    if ours.hidden is not None:
        torch.testing.assert_close(ours.hidden, theirs.hidden, rtol=0, atol=2e-4)


def test_prompts_answers_adapters_vectors_and_copies():
    decoder = decoder_of("float32")
    runners = NativeRunner(decoder, 16), TorchRunner(decoder, 16)
    for runner in runners:
        runner.add_adapter("q", adapter(decoder, 3, "model.layers.0.self_attn.q_proj"))
        both = ("model.layers.1.mlp.down_proj", "lm_head")
        runner.add_adapter("two", adapter(decoder, 2, *both))
    texts = [
        Text(IDS[:40], [7, 2, 9], adapter="q"),
        Text(IDS[5:36], [1, 0]),
        Text(IDS[10:50], [4, 5, 6], adapter="two"),
    ]

    def both(counts, **more):
        parts = [part for part in zip(texts, counts, strict=True) if part[1]]
        step = step_of(parts, **more)
        for text, count in parts:
            text.done += count
        same(*(runner.forward(step) for runner in runners))

    rows = torch.tensor([1, 2, 12])  # vectors of two texts
    both((10, 7, 0), embedded_rows=rows, embeddings=torch.randn(3, GROUPED.hidden_size))
    both((3, 1, 20), want_hidden=True)
    both((1, 1, 1))  # every sequence one token: another path in PyTorch
    for runner in runners:
        runner.copy_blocks([(7, 11), (1, 12)])
    texts[0].blocks, texts[1].blocks = [11, 2, 9], [12, 0]
    both((1, 9, 2))
    for runner in runners:
        runner.remove_adapter("q")
    texts[0].adapter = None
    both((1, 1, 1), want_hidden=True)


def test_lengths_that_decide_the_angles():
    decoder = random_decoder(replace(GROUPED, rope_scaling=DynamicScaling(2.0, 32)), std=0.2)
    runners = NativeRunner(decoder, 8), TorchRunner(decoder, 8)
    texts = [Text(IDS[:20], [0, 1]), Text(IDS[:20], [2, 3])]
    step = step_of([(t, 20) for t in texts], limits=torch.tensor([20] * 20 + [90] * 20))
    ours, theirs = (runner.forward(step) for runner in runners)
    same(ours, theirs)
    assert not torch.allclose(ours.logits[:20], ours.logits[20:])


@pytest.mark.parametrize("kv_dtype", [torch.float32, torch.bfloat16])
def test_a_cache_of_another_type(kv_dtype):
    decoder = decoder_of("float32")
    name = str(kv_dtype).removeprefix("torch.")
    runners = NativeRunner(decoder, 4, kv_dtype=name), TorchRunner(decoder, 4, 16, kv_dtype)
    step = step_of([(Text(IDS[:20], [3, 0]), 20)])
    logits = [runner.forward(step).logits for runner in runners]
    apart = (logits[0] - logits[1]).square().mean().sqrt()
    assert apart < (1e-4 if kv_dtype == torch.float32 else 0.02) * logits[1].std()
