"""GGUF files written, against the gguf package's reader and llama.cpp's converter's row order.

That llama.cpp itself loads them and gives the same answers, ``benchmarks/gguf_roundtrip.py`` shows.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from tiny_gguf import permute

from llmwright.core import ConfigurationError, InputError
from llmwright.modeling import (
    QuantizedWeight,
    load_model,
    quantized_weights,
    replace_linears,
    save_gguf,
)
from llmwright.modeling.rope_scaling import LinearScaling, YarnScaling
from llmwright.quantization import Scheme, round_to_nf4
from llmwright.tokenization import load_tokenizer, read_gguf

IDS = torch.randint(0, 400, (2, 9), generator=torch.Generator().manual_seed(0))
TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K")


@torch.inference_mode()
@pytest.mark.parametrize("kind", TYPES)
def test_what_is_written_is_read_as_the_gguf_package_reads_it(
    make_model, tmp_path: Path, kind: str
) -> None:
    model = make_model(tie_word_embeddings=False)
    file = tmp_path / "m.gguf"
    types = save_gguf(model, file, kind)
    reader = gguf.GGUFReader(file)
    four_bits = kind.startswith("Q4")
    for tensor in reader.tensors:
        assert types[tensor.name] == tensor.tensor_type.name
        wide = tensor.name in ("token_embd.weight", "output.weight") and four_bits
        assert types[tensor.name] == ("F32" if "norm" in tensor.name else "Q8_0" if wide else kind)
    again = load_model(file, "float32")
    assert again.config == model.config
    stored = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    weights = again.decoder.state_dict()
    for name, short, heads in (
        ("model.layers.1.self_attn.q_proj", "blk.1.attn_q", 8),
        ("model.layers.1.self_attn.k_proj", "blk.1.attn_k", 2),
        ("model.layers.1.self_attn.v_proj", "blk.1.attn_v", 0),
        ("model.embed_tokens", "token_embd", 0),
        ("lm_head", "output", 0),
    ):
        ours = weights[f"{name}.weight"].numpy()
        assert ((permute(ours, heads) if heads else ours) == stored[f"{short}.weight"]).all()
    if kind == "F32":
        assert torch.equal(again.decoder(IDS), model.decoder(IDS))
    else:
        difference = (again.decoder(IDS) - model.decoder(IDS)).abs().max()
        assert difference < {"F16": 0.05, "BF16": 0.3, "Q8_0": 0.3}.get(kind, 6.0)


def test_metadata_and_tokenizer_come_along(make_model, tmp_path: Path) -> None:
    model = make_model()
    save_gguf(model, tmp_path / "m.gguf", "Q8_0")
    metadata = read_gguf(tmp_path / "m.gguf").metadata
    assert metadata["general.architecture"] == "llama"
    assert metadata["general.name"] == "tiny"  # not where it lay
    assert metadata["llama.rope.dimension_count"] == metadata["llama.attention.key_length"] == 32
    assert metadata["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    tokenizer = load_tokenizer(tmp_path / "m.gguf")
    text = "Attention is 17 <b> words — Внимание!"
    assert tokenizer.encode(text) == model.tokenizer.encode(text)
    assert tokenizer.eos_ids == model.tokenizer.eos_ids
    assert tokenizer.chat_template == model.tokenizer.chat_template
    # 416 embeddings, 400 tokens: the rest have names that no text holds.
    assert len(metadata["tokenizer.ggml.tokens"]) == 416
    assert metadata["tokenizer.ggml.token_type"][400:] == [5] * 16


def test_the_same_model_gives_the_same_bytes(make_model, tmp_path: Path) -> None:
    model = make_model()
    for name in ("one", "two"):
        save_gguf(model, str(tmp_path / name), "Q4_K")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@torch.inference_mode()
def test_biases_are_put_in_order_too(make_model, tmp_path: Path) -> None:
    model = make_model(attention_bias=True, mlp_bias=True)
    save_gguf(model, tmp_path / "m.gguf", "F32")
    again = load_model(tmp_path / "m.gguf", "float32")
    assert again.config.attention_bias and again.config.mlp_bias
    assert torch.equal(again.decoder(IDS), model.decoder(IDS))
    bias = model.decoder.model.layers[0].self_attn.q_proj.bias.detach().numpy()
    stored = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert (stored["blk.0.attn_q.bias"] == permute(bias, 8)).all()


@torch.inference_mode()
@pytest.mark.parametrize("scaling", [LinearScaling(4.0), YarnScaling(4.0, 128)], ids=str)
def test_rotary_scaling_comes_along(make_model, tmp_path: Path, scaling) -> None:
    model = make_model(rope_scaling=scaling)
    save_gguf(model, tmp_path / "m.gguf", "F32")
    again = load_model(tmp_path / "m.gguf", "float32")
    assert again.config.rope_scaling == scaling
    assert torch.equal(again.decoder(IDS), model.decoder(IDS))


@pytest.mark.parametrize(
    ("hidden", "kind", "expected"),
    [
        (192, "Q4_K", "Q5_0"),  # blocks of 32, no super-blocks of 256: SmolLM2's case
        (48, "Q4_K", "F16"),
        (48, "Q8_0", "F16"),
        (48, "Q4_0", "F16"),
    ],
)
def test_rows_that_are_no_whole_blocks_fall_back(
    make_model, tmp_path: Path, hidden: int, kind: str, expected: str
) -> None:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": hidden // 4}
    model = make_model(hidden_size=hidden, **heads)
    types = save_gguf(model, tmp_path / "m.gguf", kind)
    assert types["blk.0.attn_q.weight"] == expected
    assert types["blk.0.ffn_down.weight"] == kind  # 512 columns
    load_model(tmp_path / "m.gguf", "float32")


# Weights that are quantized already


@torch.inference_mode()
@pytest.mark.parametrize(
    ("scheme", "kind", "written"),
    [
        (Scheme(4, 32, symmetric=True), "Q4_0", "Q4_0"),
        (Scheme(4, 128, symmetric=True), "Q4_0", "Q4_0"),
        (Scheme(4, 0, symmetric=True), "Q4_0", "Q4_0"),  # one group a row
        (Scheme(4, 64, symmetric=False), "Q4_0", "Q4_1"),
        (Scheme(4, 64, symmetric=True), "Q4_1", "Q4_1"),
        (Scheme(3, 64, symmetric=False), "Q4_1", "Q4_1"),
        (Scheme(4, 64, symmetric=False), "Q4_K", "Q4_1"),
        (Scheme(8, 0, symmetric=True), "Q8_0", "Q8_0"),
        (Scheme(4, 64, symmetric=False), "Q8_0", "Q8_0"),
    ],
    ids=str,
)
def test_codes_are_kept(make_model, tmp_path: Path, scheme, kind: str, written: str) -> None:
    model = make_model(scheme)
    types = save_gguf(model, tmp_path / "m.gguf", kind)
    assert Counter(types.values())[written] >= 14
    again = load_model(tmp_path / "m.gguf", "float32", packed=True)
    for name, weight in quantized_weights(model.decoder).items():
        read = quantized_weights(again.decoder)[name]
        middle = 128 if written == "Q8_0" else 8
        if written == "Q4_1":
            assert torch.equal(read.codes, weight.codes)
        else:
            moved = weight.codes - weight._spread(weight.zeros)
            assert torch.equal(read.codes - float(middle), moved)
        # Only a minimum is rounded to 16 bits: scales had 16 from the start.
        torch.testing.assert_close(read.dequantize(), weight.dequantize(), atol=1e-3, rtol=1e-3)
        if written != "Q4_1":
            assert torch.equal(read.dequantize(), weight.dequantize())


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1", "Q4_K"])
def test_a_file_read_packed_and_written_again_is_the_same(
    make_model, tmp_path: Path, kind: str
) -> None:
    model = make_model(hidden_size=256)
    save_gguf(model, tmp_path / "one.gguf", kind)
    packed = load_model(tmp_path / "one.gguf", "float32", packed=True)
    assert len(quantized_weights(packed.decoder)) == 2 * 7 + 2
    types = save_gguf(packed, tmp_path / "two.gguf", kind)
    assert Counter(types.values())[kind] >= 14
    one, two = (gguf.GGUFReader(tmp_path / f"{name}.gguf") for name in ("one", "two"))
    for first, second in zip(one.tensors, two.tensors, strict=True):
        assert first.name == second.name and first.tensor_type == second.tensor_type
        kept = gguf.quants.dequantize(first.data, first.tensor_type)
        assert (gguf.quants.dequantize(second.data, second.tensor_type) == kept).all()
    assert torch.equal(
        load_model(tmp_path / "two.gguf", "float32").decoder(IDS),
        load_model(tmp_path / "one.gguf", "float32").decoder(IDS),
    )


def test_q4_k_scales_of_any_kind_are_found_again(make_model, tmp_path: Path) -> None:
    model = make_model()
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (256, 144), dtype=np.uint8)
    for place in (0, 2):
        half = rng.uniform(1e-4, 1e-2, 256).astype(np.float16)
        half[:3] = 0
        rows[:, place : place + 2] = half[:, None].view(np.uint8)
    from llmwright.modeling.gguf_blocks import unpack

    weight = unpack(rows, Type.Q4_K)
    replace_linears(model.decoder, {"model.layers.0.self_attn.o_proj": weight})
    types = save_gguf(model, tmp_path / "m.gguf", "Q4_K")
    assert types["blk.0.attn_output.weight"] == "Q4_K"
    tensor = next(
        t
        for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors
        if t.name == "blk.0.attn_output.weight"
    )
    expected = gguf.quants.dequantize(rows, Type.Q4_K)
    assert (gguf.quants.dequantize(tensor.data, Type.Q4_K) == expected).all()


def test_codes_that_no_type_holds_are_chosen_anew(make_model, tmp_path: Path) -> None:
    model = make_model()
    name = "model.layers.0.mlp.up_proj"
    whole = model.decoder.get_submodule(name).weight.detach()
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0)) // 32
    draw = torch.Generator().manual_seed(1)
    shuffled = QuantizedWeight(
        torch.randint(0, 16, (512, 256), generator=draw, dtype=torch.uint8),
        torch.rand(512, 8, generator=draw),
        torch.full((512, 8), 8.0),
        4,
        32,
        order,
    )
    for weight in (round_to_nf4(whole), shuffled):
        replace_linears(model.decoder, {name: weight})
        types = save_gguf(model, tmp_path / "m.gguf", "Q8_0")
        assert types["blk.0.ffn_up.weight"] == "Q8_0"
        read = load_model(tmp_path / "m.gguf", "float32").decoder.get_submodule(name).weight
        step = weight.dequantize().abs().max() / 127
        assert (read - weight.dequantize()).abs().max() <= step


# What goes wrong


def test_a_type_that_is_not_written_is_an_error(make_model, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'Q6_K' is no type.*BF16, F16"):
        save_gguf(make_model(), tmp_path / "m.gguf", "Q6_K")
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_be_written_leaves_the_old_file(make_model, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_text("old")
    model = make_model()
    model.decoder.model.layers[1].mlp.up_proj.weight.data[3, 4] = float("nan")
    with pytest.raises(ConfigurationError, match="not finite"):
        save_gguf(model, file, "Q4_0")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_tokenizer_of_another_model_is_an_error(make_model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a token 399 and the model 300 embeddings"):
        save_gguf(make_model(vocab_size=300), tmp_path / "m.gguf", "Q8_0")
