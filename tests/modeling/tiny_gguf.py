"""Tiny GGUF files, written with the gguf package as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from llmwright.modeling import Decoder

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def permute(weights: np.ndarray, heads: int) -> np.ndarray:
    """The row order of llama.cpp's convert_hf_to_gguf.py, word for word."""
    return (
        weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def random_blocks(shape: tuple[int, int], kind: Type, seed: int) -> np.ndarray:
    """Bytes of a type for which the gguf package has no quantizer: any bits with small scales."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (shape[0], shape[1] // block, size), dtype=np.uint8)
    scales = {Type.Q4_K: [0, 2], Type.Q6_K: [size - 2]}[kind]
    for place in scales:
        value = rng.uniform(1e-4, 1e-3, data.shape[:2]).astype(np.float16)
        data[..., place : place + 2] = value[..., None].view(np.uint8)
    return data.reshape(shape[0], -1)


def write_gguf(
    path: Path,
    decoder: Decoder,
    *,
    kind: Type = Type.F32,
    tokenizer: Path | None = None,
    metadata: dict[str, object] | None = None,
    leave_out: str = "",
    extra: str = "",
    vectors: dict[str, list[float]] | None = None,
) -> dict[str, np.ndarray]:
    """Write ``decoder``, its matrices as ``kind``; give the tensors as the gguf package
    dequantizes them, by GGUF name."""
    config = decoder.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}
    for key, value in {"llama.rope.freq_base": config.rope_theta, **(metadata or {})}.items():
        add[type(value)](key, value)
    if tokenizer is not None:
        _add_vocabulary(writer, tokenizer)
    if extra:
        writer.add_tensor(extra, np.zeros(32, dtype=np.float32))
    for name, numbers in (vectors or {}).items():
        writer.add_tensor(name, np.array(numbers, dtype=np.float32))
    values = {}
    for number, (name, parameter) in enumerate(decoder.named_parameters()):
        if name == leave_out:
            continue
        stem, _, ending = name.rpartition(".")
        layer = ""
        if stem.startswith("model.layers."):
            _, _, index, stem = stem.split(".", 3)
            layer = f"blk.{index}."
        short, weights = NAMES[stem], parameter.detach().numpy()
        if short in ("attn_q", "attn_k"):
            heads = config.num_attention_heads if short == "attn_q" else config.num_key_value_heads
            weights = permute(weights, heads)
        stored = kind if weights.ndim == 2 else Type.F32  # norms are never quantized
        if stored in (Type.Q4_K, Type.Q6_K):
            data = random_blocks(weights.shape, stored, number)
        else:
            data = gguf.quants.quantize(weights, stored)
        full = f"{layer}{short}.{ending}"
        writer.add_tensor(full, data, raw_dtype=stored)
        values[full] = gguf.quants.dequantize(data, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def _add_vocabulary(writer: gguf.GGUFWriter, folder: Path) -> None:
    raw = json.loads((folder / "tokenizer.json").read_text())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    tokens = sorted(raw["model"]["vocab"], key=raw["model"]["vocab"].get)
    special = {token["content"] for token in raw["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in raw["model"]["merges"]])
    writer.add_eos_token_id(tokens.index(config["eos_token"]))
    writer.add_chat_template(config["chat_template"])
