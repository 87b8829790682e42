"""Weights in GGUF files, llama.cpp's format.

Tensors are dequantized by the ``gguf`` package (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q6_K and
whatever else it knows). llama.cpp stores the rows of the query and key projections of Llama models
in another order, since its rotary embedding turns neighbours (2i, 2i + 1) where Hugging Face's
turns (i, i + d/2); the reader puts them back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import torch
from gguf import quants
from torch import Tensor

from llmwright.core import ModelSourceError
from llmwright.modeling.checkpoint import fill
from llmwright.modeling.config import ModelConfig
from llmwright.modeling.decoder import Decoder
from llmwright.modeling.rope_format import GGUF_TENSORS
from llmwright.tokenization import GGUFHeader, GGUFTensor

_GGUF_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def load_gguf(header: GGUFHeader, dtype: torch.dtype) -> Decoder:
    """A decoder from a GGUF file of the Llama architecture. Raises ``ModelSourceError``."""
    where = str(header.path)
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelSourceError("has no token embedding", where=where, fix="use a whole model file")
    config = ModelConfig.from_gguf(
        header.metadata,
        tied="output.weight" not in header.tensors,
        vocab_size=embedding.shape[0],
        rope_factors=_rope_factors(header),
        where=where,
    )
    return fill(config, _gguf(header, config), dtype, where)


def _rope_factors(header: GGUFHeader) -> dict[str, list[float]]:
    """The divisors of rotary frequencies, by the names of their tensors."""
    found = [header.tensors[name] for name in GGUF_TENSORS if name in header.tensors]
    content = np.asarray(np.memmap(header.path, mode="r", dtype=np.uint8))
    rows = (content[tensor.offset : tensor.offset + tensor.size].reshape(1, -1) for tensor in found)
    return {
        tensor.name: _dequantize(row, tensor, header).tolist()
        for tensor, row in zip(found, rows, strict=True)
    }


def _gguf(header: GGUFHeader, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    content = np.asarray(np.memmap(header.path, mode="r", dtype=np.uint8))
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for tensor in header.tensors.values():
        if tensor.name in GGUF_TENSORS:
            continue  # they are in the configuration
        match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", tensor.name)
        name = match and _GGUF_NAMES.get(match[2])
        if match is None or name is None:
            yield tensor.name, torch.empty(0)  # named as surplus
            continue
        rows = content[tensor.offset : tensor.offset + tensor.size]
        rows = rows.reshape(*tensor.shape[:-1], -1)  # quantized row by row
        if match[2] in heads and len(tensor.shape) == 2:
            rows = rows[_neighbours_apart(tensor.shape[0], heads[match[2]])]
        prefix = "" if match[1] is None else f"model.layers.{match[1]}."
        yield f"{prefix}{name}.{match[3]}", torch.from_numpy(_dequantize(rows, tensor, header))


def _dequantize(rows: np.ndarray, tensor: GGUFTensor, header: GGUFHeader) -> np.ndarray:
    try:
        values = quants.dequantize(rows, tensor.type)
    except NotImplementedError as error:
        raise ModelSourceError(
            f"tensor {tensor.name!r} is quantized as {tensor.type.name}, which is not read here",
            where=str(header.path),
            fix="use a file of type Q8_0, Q6_K, Q4_K, Q4_1, Q4_0, BF16, F16 or F32",
        ) from error
    values = values.reshape(tensor.shape)
    return values if values.flags.writeable else values.copy()  # off the mapped file


def _neighbours_apart(rows: int, heads: int) -> np.ndarray:
    """Order that takes a head's rows from llama.cpp's (0, d/2, 1, d/2 + 1, ...) to (0, 1, ...)."""
    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
