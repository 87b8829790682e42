"""Merged adapters against PEFT's own merge."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_llama import SHAPES, TINY

from llmwright.core import InputError, ModelSourceError
from llmwright.modeling import (
    Decoder,
    QuantizedWeight,
    merge_adapter,
    random_decoder,
    read_adapter,
    replace_linears,
)

peft = pytest.importorskip("peft")
IDS = torch.randint(0, 97, (2, 9), generator=torch.Generator().manual_seed(0))
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def base() -> Decoder:
    return random_decoder(TINY, seed=10, std=0.3)


def make_adapter(folder: Path, **options: object) -> torch.nn.Module:
    """Let PEFT make an adapter with weights that are not zero; give PEFT's model."""
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 12, "target_modules": ALL, **options})
    model = peft.get_peft_model(base(), config).eval()
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.1, generator=generator)
    model.save_pretrained(folder)
    return model


@torch.inference_mode()
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"target_modules": ["q_proj", "v_proj"], "r": 1},
        {"target_modules": "all-linear"},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 7, r"layers.1.mlp.up_proj": 3}},
        {"target_modules": ["lm_head", "o_proj"]},
    ],
    ids=str,
)
def test_the_merged_model_is_peft_s(tmp_path: Path, options: dict[str, object]) -> None:
    wrapped = make_adapter(tmp_path, **options)
    ours = base()
    merge_adapter(ours, tmp_path)
    # PEFT's wrapper calls our forward, its layers in place of ours.
    torch.testing.assert_close(ours(IDS), wrapped(IDS), atol=1e-4, rtol=1e-4)
    merged = wrapped.merge_and_unload().state_dict()
    for name, weight in ours.state_dict().items():
        torch.testing.assert_close(weight, merged[name], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(ours(IDS), base()(IDS), atol=1e-2)


def test_in_bfloat16_the_sum_is_rounded_once(tmp_path: Path) -> None:
    make_adapter(tmp_path)
    exact, rough = base(), base().to(torch.bfloat16)
    start = {name: weight.float() for name, weight in rough.state_dict().items()}
    exact.load_state_dict(start)
    merge_adapter(exact, tmp_path)
    merge_adapter(rough, tmp_path)
    for name, weight in rough.state_dict().items():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, exact.state_dict()[name].to(torch.bfloat16))


def test_an_adapter_for_another_model_changes_nothing(tmp_path: Path) -> None:
    make_adapter(tmp_path)
    other = random_decoder(SHAPES["one head of keys, large base"], seed=1)
    before = {name: weight.clone() for name, weight in other.state_dict().items()}
    with pytest.raises(InputError, match=r"is for weights of \[20, 48\]"):
        merge_adapter(other, tmp_path)
    assert all(torch.equal(before[name], w) for name, w in other.state_dict().items())


def test_lm_head_is_not_merged_where_it_is_the_embedding(tmp_path: Path) -> None:
    make_adapter(tmp_path, target_modules=["lm_head"])
    with pytest.raises(InputError, match="shares with its embeddings"):
        merge_adapter(random_decoder(SHAPES["tied"]), tmp_path)


def edit(folder: Path, **changes: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "kind 'PROMPT_TUNING'"),
        ({"use_dora": True}, "use_dora=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"modules_to_save": ["lm_head"]}, "replaces whole modules"),
    ],
)
def test_adapters_of_other_kinds_are_refused(tmp_path: Path, changes, says) -> None:
    make_adapter(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(ModelSourceError, match=says):
        merge_adapter(base(), tmp_path)


def test_folders_that_are_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match=r"no adapter_config\.json"):
        merge_adapter(base(), tmp_path)
    make_adapter(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelSourceError, match="cannot be read"):
        merge_adapter(base(), tmp_path)
    file.unlink()
    with pytest.raises(ModelSourceError, match="cannot be read"):
        merge_adapter(base(), tmp_path)


def test_unknown_modules_and_halves_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    make_adapter(tmp_path, target_modules=["q_proj"])
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    renamed = {key.replace("q_proj", "qkv_proj"): value for key, value in tensors.items()}
    save_file(renamed, file)
    with pytest.raises(InputError, match=r"changes model\.layers\.0\.self_attn\.qkv_proj"):
        merge_adapter(base(), tmp_path)
    halves = {key: value for key, value in tensors.items() if "lora_A" in key}
    save_file(halves, file)
    with pytest.raises(ModelSourceError, match="only one of its two factors"):
        merge_adapter(base(), tmp_path)
    save_file({**tensors, "base_model.model.lm_head.lora_embedding_A": torch.ones(1)}, file)
    with pytest.raises(ModelSourceError, match="no factor of LoRA"):
        merge_adapter(base(), tmp_path)


def test_an_adapter_is_read_over_quantized_layers_and_merged_into_none(tmp_path: Path) -> None:
    make_adapter(tmp_path, target_modules=["q_proj", "down_proj"])
    name = "model.layers.1.mlp.down_proj"
    ours = base()
    weight = ours.get_submodule(name).weight.detach()  # [48, 80]
    draw = torch.Generator().manual_seed(2)
    codes = torch.randint(0, 16, weight.shape, generator=draw, dtype=torch.uint8)
    ones = torch.ones(48, 5)
    replace_linears(ours, {name: QuantizedWeight(codes, ones / 50, ones * 8, 4, 16)})
    before = ours(IDS)
    expected = read_adapter(tmp_path, base()).factors
    for module, (a, b) in read_adapter(tmp_path, ours).factors.items():
        assert torch.equal(a, expected[module][0]) and torch.equal(b, expected[module][1])
    with pytest.raises(InputError, match=rf"{name} is quantized, and an adapter cannot be added"):
        merge_adapter(ours, tmp_path)
    assert torch.equal(ours(IDS), before)  # nor into the layers that are whole


def test_an_adapter_of_other_shapes_is_refused_over_quantized_layers(tmp_path: Path) -> None:
    make_adapter(tmp_path, target_modules=["down_proj"])
    wider = random_decoder(replace(TINY, intermediate_size=96))
    ones = torch.ones(48, 6)
    name = "model.layers.0.mlp.down_proj"
    codes = torch.zeros(48, 96, dtype=torch.uint8)
    replace_linears(wider, {name: QuantizedWeight(codes, ones, ones, 4, 16)})
    with pytest.raises(InputError, match=r"\[48, 80\], and the model's are \[48, 96\]"):
        read_adapter(tmp_path, wider)
