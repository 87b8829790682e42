"""GPTQ, AWQ and compressed-tensors folders, against slow readers written from the formats'
definitions, the compressed-tensors package, and transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llmwright.core import ConfigurationError, InputError
from llmwright.modeling import (
    Model,
    QuantizedWeight,
    load_model,
    quantized_weights,
    replace_linears,
    save_checkpoint,
    save_gguf,
    save_quantized,
)
from llmwright.quantization import Scheme, round_to_nearest, round_to_nf4

IDS = torch.randint(0, 400, (2, 9), generator=torch.Generator().manual_seed(0))
NAME = "model.layers.1.self_attn.k_proj"  # [64, 256]: no square that hides a wrong axis
SYMMETRIC, ASYMMETRIC = Scheme(4, 32, symmetric=True), Scheme(4, 64, symmetric=False)


def exported(model: Model, folder: Path, format: str) -> tuple[dict, dict[str, torch.Tensor]]:
    """The quantization_config and the parts of one layer."""
    save_quantized(model, folder, format)
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    tensors = load_file(folder / "model.safetensors")
    assert f"{NAME}.weight" not in tensors
    return config, {
        key.removeprefix(f"{NAME}."): value
        for key, value in tensors.items()
        if key.startswith(f"{NAME}.")
    }


def act_order(model: Model) -> None:
    """The layer's columns in another order, as GPTQ leaves them."""
    weight = quantized_weights(model.decoder)[NAME]
    order = torch.arange(256) // weight.group_size
    order = order[torch.randperm(256, generator=torch.Generator().manual_seed(3))]
    replace_linears(
        model.decoder,
        {
            NAME: QuantizedWeight(
                weight.codes, weight.scales, weight.zeros, weight.bits, weight.group_size, order
            )
        },
    )


# The formats' definitions, one number at a time


def field(word: int, place: int, bits: int) -> int:
    return (word & 0xFFFFFFFF) >> (place * bits) & (2**bits - 1)


def slow_gptq(parts: dict[str, torch.Tensor], bits: int, less: int) -> list[list[float]]:
    """qweight[i * bits // 32][o] holds code i of output o; zeros are stored less one in v1."""
    per = 32 // bits
    qweight, qzeros = parts["qweight"].tolist(), parts["qzeros"].tolist()
    scales, groups = parts["scales"].tolist(), parts["g_idx"].tolist()
    return [
        [
            scales[g][o]
            * (
                field(qweight[i // per][o], i % per, bits)
                - (field(qzeros[g][o // per], o % per, bits) + less)
            )
            for i, g in enumerate(groups)
        ]
        for o in range(len(scales[0]))
    ]


def slow_awq(parts: dict[str, torch.Tensor], size: int) -> list[list[float]]:
    """AutoAWQ packs ``qweight |= weight[:, 8 c + order[k]] << 4 k``."""
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    qweight, qzeros = parts["qweight"].tolist(), parts["qzeros"].tolist()
    scales = parts["scales"].tolist()
    place = {column: k for k, column in enumerate(order)}
    return [
        [
            scales[i // size][o]
            * (
                field(row[o // 8], place[o % 8], 4)
                - field(qzeros[i // size][o // 8], place[o % 8], 4)
            )
            for i, row in enumerate(qweight)
        ]
        for o in range(len(scales[0]))
    ]


@pytest.mark.parametrize("ordered", [False, True], ids=["in order", "act-order"])
@pytest.mark.parametrize(
    "scheme", [SYMMETRIC, ASYMMETRIC, Scheme(8, 0, symmetric=True), Scheme(2, 32)], ids=str
)
def test_gptq_layout(make_model, tmp_path: Path, scheme: Scheme, ordered: bool) -> None:
    if ordered and not scheme.group_size:
        pytest.skip("one group has no order")
    model = make_model(scheme)
    if ordered:
        act_order(model)
    config, parts = exported(model, tmp_path / "out", "gptq")
    weight = quantized_weights(model.decoder)[NAME]
    zero = any(bool((w.zeros == 0).any()) for w in quantized_weights(model.decoder).values())
    assert config["checkpoint_format"] == ("gptq_v2" if zero else "gptq")
    assert config["bits"] == scheme.bits and config["group_size"] == (scheme.group_size or -1)
    assert config["desc_act"] == ordered and config["sym"] == scheme.symmetric
    assert parts["qweight"].shape == (256 * scheme.bits // 32, 64)
    assert parts["scales"].dtype == torch.float16
    slow = torch.tensor(slow_gptq(parts, scheme.bits, 0 if zero else 1))
    assert torch.equal(slow, weight.dequantize())


def test_gptq_zero_points_of_zero_have_no_form_in_version_one(make_model, tmp_path: Path) -> None:
    model = make_model(ASYMMETRIC)
    weight = quantized_weights(model.decoder)[NAME]
    weight.zeros[0, 0] = 0.0
    config, parts = exported(model, tmp_path / "out", "gptq")
    assert config["checkpoint_format"] == "gptq_v2"
    assert torch.equal(torch.tensor(slow_gptq(parts, 4, 0)), weight.dequantize())
    assert torch.equal(
        load_model(tmp_path / "out", "float32").decoder.get_submodule(NAME).weight,
        weight.dequantize(),
    )


@pytest.mark.parametrize("scheme", [SYMMETRIC, ASYMMETRIC, Scheme(4, 0)], ids=str)
def test_awq_layout(make_model, tmp_path: Path, scheme: Scheme) -> None:
    model = make_model(scheme)
    config, parts = exported(model, tmp_path / "out", "awq")
    assert config["version"] == "gemm" and config["zero_point"] is True
    weight = quantized_weights(model.decoder)[NAME]
    slow = torch.tensor(slow_awq(parts, scheme.group_size or 256))
    assert torch.equal(slow, weight.dequantize())


@pytest.mark.parametrize(
    "scheme",
    [
        SYMMETRIC,
        ASYMMETRIC,
        Scheme(3, 64),
        Scheme(5, 32, symmetric=True),
        Scheme(8, 0, symmetric=True),
        Scheme(8, 128),
    ],
    ids=str,
)
def test_the_compressed_tensors_package_reads_it(make_model, tmp_path: Path, scheme) -> None:
    package = pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig

    model = make_model(scheme)
    config, parts = exported(model, tmp_path / "out", "compressed-tensors")
    read = QuantizationConfig.model_validate(config)
    compressor = BaseCompressor.get_value_from_registry(read.format)
    theirs = compressor.decompress(parts, read.config_groups["group_0"])["weight"]
    weight = quantized_weights(model.decoder)[NAME].dequantize()
    assert package and torch.equal(theirs, weight.half())


@torch.inference_mode()
def test_transformers_loads_compressed_tensors(make_model, tmp_path: Path) -> None:
    # Symmetric: for zero points, transformers 5.24 with compressed-tensors 0.20 makes room
    # unpacked, though the package packs them, and then refuses the file for its shapes.
    pytest.importorskip("compressed_tensors")
    transformers = pytest.importorskip("transformers")
    model = make_model(SYMMETRIC, tie_word_embeddings=False)
    save_quantized(model, tmp_path / "out", "compressed-tensors")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32
    )
    ours = load_model(tmp_path / "out", "float32")
    torch.testing.assert_close(theirs(IDS).logits, ours.decoder(IDS), atol=0.05, rtol=0.01)
    assert torch.equal(ours.decoder(IDS), model.decoder(IDS))


@pytest.mark.parametrize(("format", "kind"), [("gptq", "GPTQConfig"), ("awq", "AwqConfig")])
def test_transformers_knows_the_configuration(make_model, tmp_path, format, kind) -> None:
    pytest.importorskip("transformers")
    from transformers.quantizers import AutoQuantizationConfig

    config, _ = exported(make_model(SYMMETRIC), tmp_path / "out", format)
    read = AutoQuantizationConfig.from_dict(config)
    assert type(read).__name__ == kind
    assert (read.bits, read.group_size) == (4, 32)


# There and back


@torch.inference_mode()
@pytest.mark.parametrize("format", ["gptq", "awq", "compressed-tensors"])
@pytest.mark.parametrize("scheme", [SYMMETRIC, ASYMMETRIC, Scheme(4, 0)], ids=str)
def test_a_folder_is_read_with_the_very_codes(make_model, tmp_path, scheme, format) -> None:
    model = make_model(scheme, attention_bias=True)
    save_quantized(model, tmp_path / "out", format)
    packed = load_model(tmp_path / "out", "float32", packed=True)
    read = quantized_weights(packed.decoder)
    written = quantized_weights(model.decoder)
    assert read.keys() == written.keys()
    for name, weight in written.items():
        assert torch.equal(read[name].codes, weight.codes)
        assert torch.equal(read[name].scales, weight.scales)
        assert torch.equal(read[name].zeros, weight.zeros)
        assert read[name].group is None and read[name].bits == weight.bits
    whole = load_model(tmp_path / "out", "float32")
    assert not quantized_weights(whole.decoder)
    assert torch.equal(packed.decoder(IDS), model.decoder(IDS))
    assert torch.equal(whole.decoder(IDS), model.decoder(IDS))
    assert packed.tokenizer.encode("A few words") == model.tokenizer.encode("A few words")


def test_act_order_comes_back(make_model, tmp_path: Path) -> None:
    model = make_model(ASYMMETRIC)
    act_order(model)
    save_quantized(model, tmp_path / "out", "gptq")
    read = quantized_weights(load_model(tmp_path / "out", "float32", packed=True).decoder)[NAME]
    written = quantized_weights(model.decoder)[NAME]
    assert torch.equal(read.group, written.group)
    assert torch.equal(read.dequantize(), written.dequantize())


def test_three_bits_lie_across_words(make_model, tmp_path: Path) -> None:
    model = make_model(Scheme(3, 64))
    _, parts = exported(model, tmp_path / "out", "gptq")
    assert parts["qweight"].shape == (24, 64)
    read = quantized_weights(load_model(tmp_path / "out", "float32", packed=True).decoder)[NAME]
    assert torch.equal(read.codes, quantized_weights(model.decoder)[NAME].codes)


@torch.inference_mode()
def test_layers_of_several_schemes_and_whole_ones(make_model, tmp_path: Path) -> None:
    model = make_model()
    layer = "model.layers.0.mlp"
    for name, scheme in (("up_proj", SYMMETRIC), ("down_proj", Scheme(8, 0, symmetric=True))):
        weight = model.decoder.get_submodule(f"{layer}.{name}").weight
        replace_linears(model.decoder, {f"{layer}.{name}": round_to_nearest(weight, scheme)})
    save_quantized(model, tmp_path / "out", "compressed-tensors")
    again = load_model(tmp_path / "out", "float32", packed=True)
    assert {n: w.bits for n, w in quantized_weights(again.decoder).items()} == {
        f"{layer}.up_proj": 4,
        f"{layer}.down_proj": 8,
    }
    assert torch.equal(again.decoder(IDS), model.decoder(IDS))
    with pytest.raises(InputError, match=r"is not quantized, and gptq has one scheme"):
        save_quantized(model, tmp_path / "other", "gptq")


@torch.inference_mode()
@pytest.mark.parametrize("tied", [True, False])
def test_a_packed_embedding_is_written_whole(make_model, tmp_path: Path, tied: bool) -> None:
    model = make_model(SYMMETRIC, tie_word_embeddings=tied)
    eight = Scheme(8, 0, symmetric=True)
    names = ["model.embed_tokens", "lm_head"][: 1 if tied else 2]
    for name in names:
        weight = model.decoder.get_submodule(name).weight
        replace_linears(model.decoder, {name: round_to_nearest(weight, eight)})
    save_quantized(model, tmp_path / "out", "compressed-tensors")
    assert torch.equal(load_model(tmp_path / "out", "float32").decoder(IDS), model.decoder(IDS))


def test_gguf_and_back(make_model, tmp_path: Path) -> None:
    """Symmetric codes go from one family of formats to the other."""
    save_gguf(make_model(SYMMETRIC), tmp_path / "m.gguf", "Q4_0")
    packed = load_model(tmp_path / "m.gguf", "float32", packed=True)
    save_quantized(packed, tmp_path / "out", "gptq")
    read = quantized_weights(load_model(tmp_path / "out", "float32", packed=True).decoder)
    for name, weight in quantized_weights(packed.decoder).items():
        if name in read:
            assert torch.equal(read[name].dequantize(), weight.dequantize())


# What goes wrong


def change(weight: QuantizedWeight, **changes: object) -> QuantizedWeight:
    values = {n: getattr(weight, n) for n in ("codes", "scales", "zeros", "bits", "group_size")}
    return QuantizedWeight(**{**values, **changes})


@pytest.mark.parametrize(
    ("damage", "format", "says"),
    [
        (lambda w: change(w, zeros=w.zeros + 0.5), "gptq", "no whole numbers"),
        (lambda w: change(w, minima=-w.zeros * w.scales), "awq", "no whole numbers"),
        (lambda w: change(w, zeros=w.zeros + 16), "compressed-tensors", "no codes"),
        (lambda w: change(w, scales=w.scales * 1e9), "awq", "too large for 16 bits"),
        (lambda w: change(w, group=torch.arange(256) % 8), "awq", "act-order"),
        (lambda w: change(w, group=torch.arange(256) % 8), "compressed-tensors", "act-order"),
        (lambda w: round_to_nf4(w.dequantize()), "gptq", "NF4"),
    ],
)
def test_weights_that_a_format_cannot_hold(make_model, tmp_path, damage, format, says) -> None:
    model = make_model(SYMMETRIC)
    replace_linears(model.decoder, {NAME: damage(quantized_weights(model.decoder)[NAME])})
    with pytest.raises(InputError, match=says) as caught:
        save_quantized(model, tmp_path / "out", format)
    assert NAME in str(caught.value) and caught.value.fix
    assert not list(tmp_path.iterdir())


def test_other_misuse(make_model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no layer of the model is quantized"):
        save_quantized(make_model(), tmp_path / "out")
    with pytest.raises(ConfigurationError, match="'exl2' is no format"):
        save_quantized(make_model(SYMMETRIC), tmp_path / "out", "exl2")
    with pytest.raises(InputError, match="has 8 bits, and the format 4"):
        save_quantized(make_model(Scheme(8, 0, symmetric=True)), tmp_path / "out", "awq")
    with pytest.raises(InputError, match="256 columns, no whole number of groups of 96"):
        save_quantized(make_model(Scheme(4, 96)), tmp_path / "out", "compressed-tensors")
    with pytest.raises(InputError, match=r"14 layers are quantized.*save_quantized"):
        save_checkpoint(make_model(SYMMETRIC), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_rows_shorter_than_a_group_belong_to_the_one_scheme(make_model, tmp_path: Path) -> None:
    """Groups of 256 are whole rows of all layers but down_proj, whose rows hold two."""
    model = make_model(Scheme(4, 256))
    assert quantized_weights(model.decoder)[NAME].scales.shape[1] == 1
    for format in ("gptq", "awq"):
        config, _ = exported(model, tmp_path / format, format)
        assert config["group_size"] == 256
        again = load_model(tmp_path / format, "float32").decoder
        assert torch.equal(again(IDS), model.decoder(IDS))
    wider = make_model(Scheme(4, 320))  # rows of 512 are a group and a part of one
    config, _ = exported(wider, tmp_path / "wider", "gptq")
    assert config["group_size"] == 320
    again = load_model(tmp_path / "wider", "float32").decoder
    assert torch.equal(again(IDS), wider.decoder(IDS))
    with pytest.raises(InputError, match="512 columns, no whole number of groups of 320"):
        exported(wider, tmp_path / "refused", "awq")


@pytest.mark.parametrize(
    ("scheme", "format"),
    [
        (Scheme(8, 32), "gptq"),  # other bits
        (Scheme(4, 64), "gptq"),  # other groups
        (Scheme(4, 0), "gptq"),  # a row of 256 is no group of 32
        (Scheme(4, 0), "awq"),
    ],
    ids=str,
)
def test_layers_that_differ_have_no_scheme(make_model, tmp_path: Path, scheme, format) -> None:
    model = make_model(Scheme(4, 32))
    whole = model.decoder.get_submodule(NAME).quantized.dequantize()
    replace_linears(model.decoder, {NAME: round_to_nearest(whole, scheme)})
    with pytest.raises(InputError, match=f"layers differ in bits or group size, and {format}"):
        save_quantized(model, tmp_path / "out", format)
    assert not list(tmp_path.iterdir())
