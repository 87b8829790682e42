"""GGUF files whose matrices stay packed, against the gguf package and the dequantized model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from tiny_gguf import permute, write_gguf
from tiny_llama import TINY

from llmwright.core import InputError
from llmwright.modeling import (
    QuantizedEmbedding,
    QuantizedLinear,
    load_model,
    quantized_weights,
    random_decoder,
    save_checkpoint,
)

WIDE = replace(
    TINY, vocab_size=400, hidden_size=256, intermediate_size=512, num_hidden_layers=1,
    num_attention_heads=8, num_key_value_heads=2, head_dim=32,
)  # fmt: skip
IDS = torch.randint(0, 400, (2, 7), generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    "kind", [Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q4_K, Type.Q6_K],
    ids=lambda kind: kind.name,
)  # fmt: skip
def test_packed_weights_are_the_file_s(
    tmp_path: Path, tiny_model_path: Path, kind: Type, tied: bool
) -> None:
    shape = replace(WIDE, tie_word_embeddings=tied)
    file = tmp_path / "t.gguf"
    values = write_gguf(file, random_decoder(shape, std=0.1), kind=kind, tokenizer=tiny_model_path)
    model = load_model(file, "float32", packed=True)
    weights = quantized_weights(model.decoder)
    assert len(weights) == 7 + 2
    for name, short, heads in (
        ("model.embed_tokens", "token_embd", 0),
        ("lm_head", "token_embd" if tied else "output", 0),
        ("model.layers.0.self_attn.q_proj", "blk.0.attn_q", 8),
        ("model.layers.0.self_attn.k_proj", "blk.0.attn_k", 2),
        ("model.layers.0.mlp.down_proj", "blk.0.ffn_down", 0),
    ):
        ours = weights[name].dequantize().numpy()
        ours = permute(ours, heads) if heads else ours
        assert ours.tobytes() == values[f"{short}.weight"].tobytes(), name
    assert isinstance(model.decoder.model.embed_tokens, QuantizedEmbedding)
    assert isinstance(model.decoder.lm_head, QuantizedLinear)
    assert (weights["lm_head"] is weights["model.embed_tokens"]) == tied
    assert torch.equal(model.decoder(IDS), load_model(file, "float32").decoder(IDS))
    with pytest.raises(InputError, match="9 layers are quantized"):
        save_checkpoint(model, tmp_path / "out")


@torch.inference_mode()
def test_types_without_blocks_stay_whole(tmp_path: Path, tiny_model_path: Path) -> None:
    file = tmp_path / "t.gguf"
    write_gguf(file, random_decoder(WIDE), kind=Type.F16, tokenizer=tiny_model_path)
    assert not quantized_weights(load_model(file, packed=True).decoder)


@torch.inference_mode()
def test_smollm2_s_own_file(smollm2_path: Path) -> None:
    model = load_model(smollm2_path, "float32", packed=True)
    weights = quantized_weights(model.decoder)
    assert Counter(w.bits for w in weights.values()) == {4: 210, 8: 2}
    tensors = {t.name: t for t in gguf.GGUFReader(smollm2_path).tensors}
    tensor = tensors["blk.7.attn_q.weight"]
    expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    ours = weights["model.layers.7.self_attn.q_proj"].dequantize().numpy()
    assert permute(ours, 9).tobytes() == expected.tobytes()
    ids = torch.tensor([model.tokenizer.encode("The capital of France is")])
    assert model.tokenizer.decode([int(model.decoder(ids)[0, -1].argmax())]) == " Paris"
