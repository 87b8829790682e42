"""The kernels against the reference decoder, and against themselves in other company."""

from __future__ import annotations

import copy
import math
import os
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from native_models import GROUPED, decoder_of, quantized_decoder
from native_steps import Text, advance, blocks_for, read, step_of
from tiny_llama import SHAPES
from torch import nn

from llmwright.core import ConfigurationError
from llmwright.inference.native import NativeRunner, greedy
from llmwright.modeling import DynamicScaling, QuantizedLinear, random_decoder

IDS = torch.randint(0, 97, (70,), generator=torch.Generator().manual_seed(1)).tolist()


def reference(decoder, ids) -> torch.Tensor:
    with torch.inference_mode():
        return decoder(torch.tensor([ids]))[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_equals_the_decoder(shape):
    decoder = random_decoder(SHAPES[shape], std=0.2)
    if SHAPES[shape].attention_bias:
        for name, weight in decoder.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(weight, std=0.3)
    text = Text(IDS, blocks_for(70, 9, -2))
    logits = read(NativeRunner(decoder, 10, threads=2), text, 40)
    torch.testing.assert_close(logits, reference(decoder, IDS), rtol=0, atol=1e-4)


def test_bfloat16_is_nearer_to_float32_than_pytorch_in_bfloat16():
    decoder = random_decoder(GROUPED, std=0.2).bfloat16()
    exact = reference(copy.deepcopy(decoder).float(), IDS)
    ours = read(NativeRunner(decoder, 10), Text(IDS, blocks_for(70, 0)), 70)
    theirs = reference(decoder, IDS)
    assert (ours - exact).square().mean() < (theirs - exact).square().mean()
    assert (ours - exact).abs().max() < 0.05 * exact.abs().max()


def eight_bit_inputs(decoder):
    """The decoder in float32, the inputs of quantized layers rounded as the kernels do."""

    def round_input(module, args):
        (x,) = args
        group = module.quantized.group
        order = torch.arange(x.shape[-1]) if group is None else group.argsort(stable=True)
        rows = nn.functional.pad(x[..., order], (0, -len(order) % 32)).unflatten(-1, (-1, 32))
        steps = rows.abs().amax(-1, keepdim=True) / 127
        rows = ((rows / steps.clamp_min(1e-30)).round() * steps).flatten(-2)[..., : len(order)]
        out = torch.empty_like(x)
        out[..., order] = rows
        return (out,)

    decoder = copy.deepcopy(decoder).float()
    for module in decoder.modules():
        if isinstance(module, QuantizedLinear):
            module.register_forward_pre_hook(round_input)
    return decoder


@pytest.mark.parametrize(
    "bits, group, how",
    [
        (4, 32, {}), (4, 64, {}), (4, 0, {}), (4, 32, {"symmetric": True}), (3, 32, {}),
        (8, 0, {}), (8, 0, {"symmetric": True}), (8, 32, {}), (6, 32, {}),
        (4, 32, {"order": 3}), (8, 32, {"order": 4}),
    ],
)  # fmt: skip
def test_codes_are_multiplied_with_inputs_of_eight_bits(bits, group, how):
    config = replace(GROUPED, intermediate_size=128, num_attention_heads=4, num_hidden_layers=1)
    decoder = quantized_decoder(config, bits, group, **how)
    logits = read(NativeRunner(decoder, 10, kv_dtype="float32"), Text(IDS, blocks_for(70, 0)), 70)
    expected = reference(eight_bit_inputs(decoder), IDS)
    # Where float32's own rounding lets an input fall to the other side of a half, the row moves
    # by one step of that input, and those that attend to it a little.
    apart = (logits - expected).abs().amax(1) / expected.std()
    assert apart[0] < 1e-4 and apart.median() < 1e-2 and apart.max() < 0.1


def test_forms_without_whole_number_products_are_dequantized():
    decoder = quantized_decoder(GROUPED, 4, 48)  # a group of 48 columns is no whole blocks of 32
    exact = reference(copy.deepcopy(decoder).float(), IDS)
    logits = read(NativeRunner(decoder, 10), Text(IDS, blocks_for(70, 0)), 70)
    assert (logits - exact).abs().max() < 0.05 * exact.abs().max()

    codebook = torch.linspace(-1, 1, 16) ** 3
    decoder = quantized_decoder(GROUPED, 4, 32)
    for module in decoder.modules():
        if isinstance(module, QuantizedLinear):
            module.quantized = replace(module.quantized, codebook=codebook)
    exact = reference(copy.deepcopy(decoder).float(), IDS)
    logits = read(NativeRunner(decoder, 10), Text(IDS, blocks_for(70, 0)), 70)
    assert (logits - exact).abs().max() < 0.05 * exact.abs().max()


FORMS = [("float32", "float32"), ("bfloat16", "bfloat16"), ("int8", "int8"), ("int4", "bfloat16")]


def texts(count: int) -> list[Text]:
    """Texts of different lengths, each in blocks of its own that do not lie in order."""
    generator = torch.Generator().manual_seed(count)
    made = []
    for n in range(count):
        length = 66 if n == 0 else 17 + 5 * n
        ids = torch.randint(0, 97, (length,), generator=generator).tolist()
        made.append(Text(IDS[:66] if n == 0 else ids, blocks_for(length, n + 80, -16)))
    return made


@pytest.mark.parametrize("form, kv_dtype", FORMS)
def test_a_row_does_not_depend_on_its_company(form, kv_dtype):
    decoder = decoder_of(form)
    runner = NativeRunner(decoder, 96, kv_dtype=kv_dtype, threads=2)
    whole = read(runner, texts(1)[0], 66)
    for chunk in (1, 7, 64):
        assert torch.equal(read(runner, texts(1)[0], chunk), whole), chunk
    assert torch.equal(
        read(NativeRunner(decoder, 96, kv_dtype=kv_dtype, threads=1), texts(1)[0], 9), whole
    )
    many = texts(16)
    while any(text.done < len(text.tokens) for text in many):
        parts = [(t, min(1 + n % 5, len(t.tokens) - t.done)) for n, t in enumerate(many)]
        advance(runner, [part for part in parts if part[1]])
    assert torch.equal(torch.cat(many[0].logits), whole)
    assert torch.equal(torch.cat(many[7].logits), read(runner, texts(16)[7], 33))


def test_a_cache_of_eight_bits_stays_near():
    decoder = decoder_of("float32")
    runners = {kv: NativeRunner(decoder, 96, kv_dtype=kv) for kv in ("float32", "bfloat16", "int8")}
    logits = {kv: read(runner, texts(1)[0], 66) for kv, runner in runners.items()}
    exact = logits["float32"]
    for kv, most in (("bfloat16", 0.02), ("int8", 0.04)):
        assert (logits[kv] - exact).square().mean().sqrt() < most * exact.std()
    bytes_a_token = {kv: runner.bytes_per_block / 16 for kv, runner in runners.items()}
    pairs = GROUPED.num_hidden_layers * GROUPED.num_key_value_heads * 2
    assert bytes_a_token["float32"] == pairs * 16 * 4
    assert bytes_a_token["bfloat16"] == pairs * 16 * 2
    assert bytes_a_token["int8"] == pairs * (16 + 4)  # and a scale a head


def test_copied_blocks_go_on_by_themselves():
    runner = NativeRunner(decoder_of("float32"), 96)
    text = Text(IDS[:40], [3, 4, 5])
    expected = read(runner, Text(IDS[:50], [10, 11, 12, 13]), 50)
    read(runner, text, 40)
    runner.copy_blocks([(5, 20), (4, 21)])
    runner.copy_blocks([])
    fork = Text(IDS[:50], [3, 21, 20, 22], done=40)
    assert torch.equal(read(runner, fork, 10), expected[40:])


def test_given_embeddings_and_last_hidden_states():
    decoder = decoder_of("float32")
    runner = NativeRunner(decoder, 8)
    rows = torch.tensor([0, 2])
    given = torch.randn(2, GROUPED.hidden_size)
    step = step_of(
        [(Text(IDS[:9], [1]), 9)], embedded_rows=rows, embeddings=given, want_hidden=True
    )
    step = replace(step, logits_at=torch.tensor([8, 3]))
    out = runner.forward(step)
    embedding = decoder.model.embed_tokens
    handle = embedding.register_forward_hook(
        lambda module, args, x: x.index_copy(1, rows, given.unsqueeze(0))
    )
    with torch.inference_mode():
        hidden = decoder.model(torch.tensor([IDS[:9]]))[0]
    handle.remove()
    torch.testing.assert_close(out.hidden, hidden, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        out.logits, hidden[[8, 3]] @ decoder.lm_head.weight.T, rtol=0, atol=1e-4
    )
    again = runner.forward(step)
    assert torch.equal(again.logits, out.logits) and again.logits is not out.logits


def test_positions_are_turned_by_the_decoders_own_tables():
    decoder = random_decoder(replace(GROUPED, rope_scaling=DynamicScaling(2.0, 32)), std=0.2)
    step = step_of([(Text(IDS[:60], [0, 1, 2, 3]), 60)], limits=torch.full((60,), 60))
    with torch.inference_mode():
        expected = decoder(torch.tensor([IDS[:60]]))[0]
    torch.testing.assert_close(
        NativeRunner(decoder, 4).forward(step).logits, expected, rtol=0, atol=1e-4
    )


def test_what_does_not_fit_is_refused():
    decoder = decoder_of("float32")
    with pytest.raises(ConfigurationError, match=r"block_size: .*multiple of 16"):
        NativeRunner(decoder, 4, block_size=8)
    with pytest.raises(ConfigurationError, match="float16"):
        NativeRunner(decoder, 4, kv_dtype="float16")


def test_a_child_process_has_threads_of_its_own():
    runner = NativeRunner(decoder_of("float32"), 96, threads=2)
    expected = read(runner, texts(1)[0], 66)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        same = torch.equal(read(runner, texts(1)[0], 66), expected)
        os.write(writer, b"same" if same else b"other")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"same"


def test_greedy_answers_are_those_of_transformers(smollm2_path, tmp_path):
    from transformers import AutoModelForCausalLM

    from llmwright.modeling import load_model, save_checkpoint

    model = load_model(str(smollm2_path), "float32")
    save_checkpoint(model, tmp_path / "model")
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    prompt = model.tokenizer.encode("The capital of France is Paris, and the river there is")
    batch = torch.tensor([prompt])
    expected = peer.generate(
        batch,
        attention_mask=torch.ones_like(batch),
        max_new_tokens=20,
        do_sample=False,
        pad_token_id=0,
    )[0].tolist()
    text = Text(prompt, blocks_for(len(prompt) + 20, 0))
    runner = NativeRunner(model.decoder, 8)
    while text.done < len(expected) - 1:
        logits = advance(runner, [(text, len(text.tokens) - text.done)])
        text.tokens.append(int(logits[-1].argmax()))
    assert text.tokens == expected


@given(
    values=st.lists(
        st.lists(st.sampled_from([-math.inf, -1.5, 0.0, 2.0, 3.0]), min_size=37, max_size=37),
        min_size=1,
        max_size=3,
    )
)
def test_greedy_takes_the_first_of_the_largest(values):
    logits = torch.tensor(values)
    expected = [row.index(max(row)) for row in values]
    places, logprobs = greedy(logits)
    assert places.tolist() == expected
    some = logits.amax(-1) > -math.inf
    expected_logprobs = logits.log_softmax(-1).amax(-1)
    torch.testing.assert_close(logprobs[some], expected_logprobs[some], atol=1e-5, rtol=1e-5)
    every_other, _ = greedy(logits[:, ::2])
    assert every_other.tolist() == [row[::2].index(max(row[::2])) for row in values]
