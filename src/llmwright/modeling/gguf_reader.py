"""Weights in GGUF files, llama.cpp's format.

Matrices whose type ``gguf_blocks`` takes apart stay in their few bits where that is asked for; all
others are dequantized by the ``gguf`` package (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q6_K and
whatever else it knows). llama.cpp stores the rows of the query and key projections of Llama models
in another order, since its rotary embedding turns neighbours (2i, 2i + 1) where Hugging Face's
turns (i, i + d/2); the reader puts them back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod

import numpy as np
import torch
from gguf import quants
from numpy.typing import NDArray
from torch import Tensor

from llmwright.core import ModelSourceError
from llmwright.modeling.checkpoint import fill
from llmwright.modeling.config import ModelConfig
from llmwright.modeling.decoder import Decoder
from llmwright.modeling.gguf_blocks import UNPACKED, unpack
from llmwright.modeling.quantized import QuantizedWeight
from llmwright.modeling.rope_format import GGUF_TENSORS
from llmwright.tokenization import GGUFHeader, GGUFTensor

GGUF_NAMES = {
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


def load_gguf(header: GGUFHeader, dtype: torch.dtype, *, packed: bool = False) -> Decoder:
    """A decoder from a GGUF file of the Llama architecture.

    With ``packed`` matrices stay quantized as the file has them, in ``QuantizedLinear`` and
    ``QuantizedEmbedding``. Raises ``ModelSourceError``.
    """
    where = str(header.path)
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelSourceError("has no token embedding", where=where, fix="use a whole model file")
    config = ModelConfig.from_gguf(
        header.metadata,
        tied="output.weight" not in header.tensors,
        attention_bias="blk.0.attn_q.bias" in header.tensors,
        mlp_bias="blk.0.ffn_gate.bias" in header.tensors,
        vocab_size=embedding.shape[0],
        rope_factors=_rope_factors(header),
        where=where,
    )
    if config.num_hidden_layers > len(header.tensors):
        raise ModelSourceError(
            f"says that it has {config.num_hidden_layers} layers, and has only "
            f"{len(header.tensors)} tensors",
            where=where,
            fix="fetch the file again",
        )
    return fill(config, _tensors(header, config, packed), dtype, where)


def _rope_factors(header: GGUFHeader) -> dict[str, list[float]]:
    """The divisors of rotary frequencies, by the names of their tensors."""
    found = [header.tensors[name] for name in GGUF_TENSORS if name in header.tensors]
    content = np.asarray(np.memmap(header.path, mode="r", dtype=np.uint8))
    rows = (content[tensor.offset : tensor.offset + tensor.size].reshape(1, -1) for tensor in found)
    return {
        tensor.name: _dequantize(row, tensor, header).tolist()
        for tensor, row in zip(found, rows, strict=True)
    }


def _tensors(
    header: GGUFHeader, config: ModelConfig, packed: bool
) -> Iterator[tuple[str, Tensor | QuantizedWeight]]:
    content = np.asarray(np.memmap(header.path, mode="r", dtype=np.uint8))
    for tensor in header.tensors.values():
        if tensor.name in GGUF_TENSORS:
            continue  # they are in the configuration
        found = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", tensor.name)
        short = found and GGUF_NAMES.get(found[2])
        if found is None or short is None:
            yield tensor.name, torch.empty(0)  # named as surplus
            continue
        layer = "" if found[1] is None else f"model.layers.{found[1]}."
        name = f"{layer}{short}.{found[3]}"
        if not tensor.size:
            yield name, torch.empty(tensor.shape)  # of no shape that is wanted
            continue
        # Quantized row by row; a vector is one row.
        rows = content[tensor.offset : tensor.offset + tensor.size]
        rows = rows.reshape(prod(tensor.shape[:-1]), -1)
        order = neighbours_apart(name, tensor.shape[0], config)
        if packed and len(tensor.shape) == 2 and tensor.type in UNPACKED:
            weight = unpack(rows, tensor.type)
            yield name, weight if order is None else weight.rows(torch.from_numpy(order))
        else:
            values = _dequantize(rows, tensor, header)
            yield name, torch.from_numpy(values if order is None else values[order])


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


def neighbours_apart(name: str, rows: int, config: ModelConfig) -> NDArray[np.int64] | None:
    """Order that takes the rows of a query or key projection from llama.cpp's, in which each
    head's run 0, d/2, 1, d/2 + 1, ..., to 0, 1, ...; None for what both keep in one order."""
    projection = name.rsplit(".", 2)[-2]
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    if projection not in heads or rows % (2 * heads[projection]):
        return None
    return np.arange(rows).reshape(heads[projection], -1, 2).swapaxes(1, 2).reshape(-1)
