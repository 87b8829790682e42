"""Reading and writing weights, against transformers and the gguf package's own dequantizer."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.torch import load_file, save_file
from tiny_gguf import permute, write_gguf
from tiny_llama import TINY

from llmwright.core import LLMwrightError, ModelSourceError
from llmwright.modeling import load_model, random_decoder, save_checkpoint

# Rows of 256, so that the K-quants have whole blocks; 8 and 2 heads, so that a wrong order shows.
WIDE = replace(
    TINY,
    vocab_size=400,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=1,
    num_attention_heads=8,
    num_key_value_heads=2,
    head_dim=32,
    tie_word_embeddings=True,
)
IDS = torch.randint(0, 97, (2, 11), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def hf_folder(tmp_path: Path, tiny_model_path: Path, decoder, reference) -> Path:
    """A folder that transformers wrote, with a tokenizer beside it."""
    folder = tmp_path / "hf"
    reference(decoder).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model_path / name, folder)
    return folder


@torch.inference_mode()
def test_a_folder_of_transformers(hf_folder: Path, decoder, reference) -> None:
    model = load_model(hf_folder, "float32")
    torch.testing.assert_close(
        model.decoder(IDS), reference(decoder)(IDS).logits, atol=2e-4, rtol=1e-4
    )
    assert model.config == decoder.config
    assert not model.decoder.training


@torch.inference_mode()
def test_shards(hf_folder: Path, decoder) -> None:
    weights = load_file(hf_folder / "model.safetensors")
    (hf_folder / "model.safetensors").unlink()
    names = sorted(weights)
    index = {}
    for number, part in enumerate((names[:5], names[5:])):
        file = f"model-{number + 1:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, hf_folder / file)
        index.update(dict.fromkeys(part, file))
    (hf_folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    loaded = load_model(hf_folder, "float32").decoder
    assert all(torch.equal(v, decoder.state_dict()[k]) for k, v in loaded.state_dict().items())
    (hf_folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelSourceError, match="model-00002-of-00002"):
        load_model(hf_folder)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_saved_loads_in_transformers_and_here(
    hf_folder: Path, tmp_path: Path, dtype
) -> None:
    transformers = pytest.importorskip("transformers")
    model = load_model(hf_folder, dtype)
    save_checkpoint(model, tmp_path / "out")
    again = load_model(tmp_path / "out", dtype)
    assert torch.equal(again.decoder(IDS), model.decoder(IDS))
    assert again.tokenizer.eos_ids == model.tokenizer.eos_ids
    # The saved weights, whatever their dtype, compared in float32.
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="float32")
    ours = load_model(tmp_path / "out", "float32").decoder
    torch.testing.assert_close(ours(IDS), theirs(IDS).logits, atol=2e-4, rtol=1e-4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    chat = [{"role": "user", "content": "What is LoRA?"}]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rendered == "<|im_start|>user\nWhat is LoRA?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer(rendered)["input_ids"] == model.tokenizer.encode(rendered)


def test_saving_the_same_model_twice_gives_the_same_bytes(hf_folder: Path, tmp_path: Path) -> None:
    model = load_model(hf_folder, "float32")
    for name in ("one", "two"):
        save_checkpoint(model, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "model.safetensors" in files
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def damage(folder: Path, how: str) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    config = json.loads((folder / "config.json").read_text())
    if how == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        return
    if how == "empty":
        file.write_bytes(b"")
        return
    if how == "missing":
        del weights["model.layers.1.mlp.up_proj.weight"]
    elif how == "surplus":
        weights["model.layers.0.self_attn.q_norm.weight"] = torch.ones(10)
    elif how == "shape":
        weights["model.norm.weight"] = torch.ones(47)
    elif how == "qwen":
        config["model_type"] = "qwen2"
    elif how == "scaled":
        config["rope_parameters"] = {"rope_type": "proportional", "factor": 4.0}
    elif how == "gelu":
        config["hidden_act"] = "gelu"
    elif how == "quantized":
        config["quantization_config"] = {"quant_method": "aqlm"}
    elif how == "incomplete":
        del config["hidden_size"]
    save_file(weights, file)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("cut", "broken or cut short"),
        ("empty", "broken or cut short"),
        ("missing", r"lacks the tensor 'model\.layers\.1\.mlp\.up_proj\.weight'"),
        ("surplus", r"beyond what the model knows.*q_norm"),
        ("shape", r"'model\.norm\.weight' is \[47\]"),
        ("qwen", "architecture is 'qwen2'"),
        ("scaled", "rotary scaling is 'proportional'"),
        ("gelu", "activation is 'gelu'"),
        ("quantized", "quantized in a form"),
        ("incomplete", "field 'hidden_size' is missing"),
    ],
)
@pytest.mark.parametrize("shape", [TINY], ids=[""])
def test_broken_folders_say_what_is_wrong(hf_folder: Path, how: str, says: str) -> None:
    damage(hf_folder, how)
    with pytest.raises(ModelSourceError, match=says) as caught:
        load_model(hf_folder)
    assert caught.value.fix
    assert "\n" not in str(caught.value)


# GGUF


@torch.inference_mode()
@pytest.mark.parametrize(
    "kind",
    [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q4_K, Type.Q6_K],
    ids=lambda kind: kind.name,
)
def test_every_type_of_gguf_is_dequantized_and_put_in_order(
    tmp_path: Path, tiny_model_path: Path, kind: Type
) -> None:
    written = random_decoder(WIDE, seed=9, std=0.1)
    file = tmp_path / "tiny.gguf"
    values = write_gguf(file, written, kind=kind, tokenizer=tiny_model_path)
    model = load_model(file, "float32")
    assert model.config == WIDE
    weights = model.decoder.state_dict()
    for name, short, heads in (
        ("model.embed_tokens", "token_embd", 0),
        ("model.layers.0.self_attn.q_proj", "blk.0.attn_q", 8),
        ("model.layers.0.self_attn.k_proj", "blk.0.attn_k", 2),
        ("model.layers.0.self_attn.v_proj", "blk.0.attn_v", 0),
        ("model.layers.0.self_attn.o_proj", "blk.0.attn_output", 0),
        ("model.layers.0.mlp.gate_proj", "blk.0.ffn_gate", 0),
        ("model.layers.0.mlp.up_proj", "blk.0.ffn_up", 0),
        ("model.layers.0.mlp.down_proj", "blk.0.ffn_down", 0),
        ("model.layers.0.input_layernorm", "blk.0.attn_norm", 0),
        ("model.layers.0.post_attention_layernorm", "blk.0.ffn_norm", 0),
        ("model.norm", "output_norm", 0),
    ):
        ours = weights[f"{name}.weight"].numpy()
        ours = permute(ours, heads) if heads else ours
        assert (ours == values[f"{short}.weight"]).all(), name
    if kind == Type.F32:  # nothing was rounded, so it is the model that was written
        assert torch.equal(model.decoder(IDS), written(IDS))
        assert model.tokenizer.encode_chat([])  # its vocabulary and template came along


def test_a_gguf_with_an_output_matrix_of_its_own(tmp_path: Path, tiny_model_path: Path) -> None:
    written = random_decoder(replace(WIDE, tie_word_embeddings=False), seed=9)
    write_gguf(tmp_path / "t.gguf", written, tokenizer=tiny_model_path)
    model = load_model(tmp_path / "t.gguf", "float32")
    assert not model.config.tie_word_embeddings
    assert torch.equal(model.decoder.lm_head.weight, written.lm_head.weight)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"leave_out": "model.layers.0.mlp.up_proj.weight"}, "lacks the tensor"),
        ({"leave_out": "model.embed_tokens.weight"}, "no token embedding"),
        ({"extra": "blk.0.attn_q_norm.weight"}, "attn_q_norm"),
        ({"extra": "rope_freqs.weight"}, "divisor of a rotary frequency"),
        ({"metadata": {"llama.rope.scaling.type": "longrope"}}, "rotary scaling"),
        ({"metadata": {"llama.expert_count": 8}}, "experts"),
        ({"tokenizer": None}, "holds no vocabulary"),
    ],
)
def test_gguf_files_that_cannot_be_run_say_why(
    tmp_path: Path, tiny_model_path: Path, options, says
) -> None:
    file = tmp_path / "t.gguf"
    write_gguf(file, random_decoder(WIDE), **{"tokenizer": tiny_model_path, **options})
    with pytest.raises(ModelSourceError, match=says) as caught:
        load_model(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_a_gguf_cut_anywhere_is_one_sentence(
    tmp_path: Path, tiny_model_path: Path, part: float
) -> None:
    file = tmp_path / "t.gguf"
    write_gguf(file, random_decoder(WIDE), tokenizer=tiny_model_path)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(LLMwrightError, match=r"cut short|not a GGUF|cannot be read") as caught:
        load_model(file)
    assert "\n" not in str(caught.value)
