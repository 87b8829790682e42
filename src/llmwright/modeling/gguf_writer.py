"""A model as one GGUF file, which llama.cpp, Ollama and LM Studio load.

Which type a tensor gets, as llama.cpp's own quantizer decides it:

- norms and biases stay F32;
- embedding and output matrix are Q8_0 in the 4-bit files, as in SmolLM2's own: every logit
  passes through them;
- rows that are no whole number of super-blocks (SmolLM2's 576 columns) go from Q4_K to Q5_0, and
  rows that are no whole number of blocks of 32 to F16.

A weight that is quantized already keeps its codes, in the type asked for where that holds them
(see ``gguf_repacking``), else in one of the same size that does. The rows of query and key
projections are put into llama.cpp's order. Weights that get their codes here get them tensor by
tensor as the file is written, and it appears whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gguf import GGUFWriter, LlamaFileType
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Type
from torch import Tensor

from llmwright.core import ConfigurationError, atomic_write, progress
from llmwright.modeling.config import ModelConfig
from llmwright.modeling.decoder import Decoder
from llmwright.modeling.gguf_blocks import Bytes
from llmwright.modeling.gguf_reader import GGUF_NAMES, neighbours_apart
from llmwright.modeling.gguf_repacking import repacked
from llmwright.modeling.gguf_rounding import quantize_rows
from llmwright.modeling.model import Model
from llmwright.modeling.quantized import QuantizedEmbedding, QuantizedLinear, QuantizedWeight
from llmwright.modeling.rope_format import rope_to_gguf
from llmwright.tokenization import gguf_vocabulary

GGUFType = Literal["Q8_0", "Q4_0", "Q4_1", "Q4_K", "F16", "BF16", "F32"]

_FILE_TYPES = {
    Type.F32: LlamaFileType.ALL_F32,
    Type.F16: LlamaFileType.MOSTLY_F16,
    Type.BF16: LlamaFileType.MOSTLY_BF16,
    Type.Q8_0: LlamaFileType.MOSTLY_Q8_0,
    Type.Q4_0: LlamaFileType.MOSTLY_Q4_0,
    Type.Q4_1: LlamaFileType.MOSTLY_Q4_1,
    Type.Q4_K: LlamaFileType.MOSTLY_Q4_K_S,
}
# Types that may hold codes as they are in a file of each type, the likeliest first.
_HOLDERS = {
    Type.Q8_0: (Type.Q8_0,),
    Type.Q4_0: (Type.Q4_0, Type.Q4_1),
    Type.Q4_1: (Type.Q4_1,),
    Type.Q4_K: (Type.Q4_K, Type.Q4_0, Type.Q4_1, Type.Q5_0),
}
_FOUR_BITS = (Type.Q4_0, Type.Q4_1, Type.Q4_K)
_VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight")


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor of the file: ``data`` where its bytes are known already, else ``weight``."""

    gguf_name: str
    name: str
    weight: Tensor | QuantizedWeight
    type: Type
    data: Bytes | None


def save_gguf(model: Model, path: Path | str, type: GGUFType = "Q8_0") -> dict[str, str]:
    """Write ``model`` with its tokenizer to a GGUF file, its matrices as ``type``.

    Gives the type of each tensor, by its name in the file. Raises ``ConfigurationError`` for a
    type that is not written here and ``InputError`` where the tokenizer has no GGUF form.
    """
    kinds = {kind.name: kind for kind in _FILE_TYPES}
    if type not in kinds:
        raise ConfigurationError(
            f"{type!r} is no type that is written here",
            where="type",
            fix=f"use {', '.join(sorted(kinds))}",
        )
    kind = kinds[type]
    config = model.config
    keys, factors = rope_to_gguf(config.rope, config.head_dim)
    metadata = {
        **_architecture(model, kind),
        **keys,
        **gguf_vocabulary(model.tokenizer, config.vocab_size),
    }
    tensors = [
        *(_plan(n, name, w, kind) for n, name, w in _weights(model.decoder)),
        *(_Tensor(name, name, torch.tensor(x), Type.F32, None) for name, x in factors.items()),
    ]
    with atomic_write(Path(path)) as temporary:
        writer = GGUFWriter(temporary, "llama")
        try:
            _write(writer, metadata, tensors, config)
        finally:
            writer.close()
    return {tensor.gguf_name: tensor.type.name for tensor in tensors}


def _architecture(model: Model, kind: Type) -> dict[str, Any]:
    config = model.config
    return {
        "general.type": "model",
        "general.name": Path(model.source).name,
        "general.file_type": int(_FILE_TYPES[kind]),
        "general.quantization_version": 2,
        "llama.vocab_size": config.vocab_size,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.block_count": config.num_hidden_layers,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.key_length": config.head_dim,
        "llama.attention.value_length": config.head_dim,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.dimension_count": config.head_dim,
    }


def _weights(decoder: Decoder) -> Iterator[tuple[str, str, Tensor | QuantizedWeight]]:
    """GGUF name, name and value of each weight."""
    short = {name: gguf for gguf, name in GGUF_NAMES.items()}
    for name, module in decoder.named_modules():
        layer = ""
        own = name
        if name.startswith("model.layers.") and name.count(".") > 2:
            _, _, number, own = name.split(".", 3)
            layer = f"blk.{number}."
        if own not in short or (own == "lm_head" and decoder.config.tie_word_embeddings):
            continue
        stem = f"{layer}{short[own]}"
        if isinstance(module, QuantizedLinear | QuantizedEmbedding):
            yield f"{stem}.weight", f"{name}.weight", module.quantized.to(torch.device("cpu"))
        else:
            yield f"{stem}.weight", f"{name}.weight", module.weight
        if getattr(module, "bias", None) is not None:
            yield f"{stem}.bias", f"{name}.bias", module.bias


def _plan(gguf_name: str, name: str, weight: Tensor | QuantizedWeight, kind: Type) -> _Tensor:
    if len(weight.shape) == 1:
        return _Tensor(gguf_name, name, weight, Type.F32, None)
    wide = name in _VOCABULARY and kind in _FOUR_BITS
    if isinstance(weight, QuantizedWeight):
        for holder in (*_HOLDERS.get(kind, ()), *([Type.Q8_0] if wide else [])):
            if (data := repacked(weight, holder)) is not None:
                return _Tensor(gguf_name, name, weight, holder, data)
    columns = weight.shape[1]
    if wide:
        kind = Type.Q8_0
    if columns % GGML_QUANT_SIZES[kind][0] and kind == Type.Q4_K:
        kind = Type.Q5_0
    if columns % GGML_QUANT_SIZES[kind][0]:
        kind = Type.F16
    return _Tensor(gguf_name, name, weight, kind, None)


def _write(
    writer: GGUFWriter, metadata: Mapping[str, Any], tensors: list[_Tensor], config: ModelConfig
) -> None:
    add: dict[type, Callable[[str, Any], None]] = {
        str: writer.add_string,
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        list: writer.add_array,
    }
    for key, value in metadata.items():
        add[type(value)](key, value)
    for tensor in tensors:
        block, size = GGML_QUANT_SIZES[tensor.type]
        shape = tuple(tensor.weight.shape)
        bytes_ = prod(shape) // block * size
        writer.add_tensor_info(
            tensor.gguf_name, shape, np.dtype(np.float32), bytes_, raw_dtype=tensor.type
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    total = sum(prod(tensor.weight.shape) for tensor in tensors)
    with progress("writing", total=total, unit="weights") as advance:
        for tensor in tensors:
            writer.write_tensor_data(_rows(tensor, config))
            advance(prod(tensor.weight.shape))


def _rows(tensor: _Tensor, config: ModelConfig) -> Bytes:
    """The tensor's bytes, its rows in llama.cpp's order."""
    data = tensor.data
    if data is None:
        weight = tensor.weight
        if isinstance(weight, QuantizedWeight):
            values = weight.dequantize()
        else:
            values = weight.detach().float().cpu()
        data = quantize_rows(values.reshape(-1, values.shape[-1]).numpy(), tensor.type)
    order = neighbours_apart(tensor.name, tensor.weight.shape[0], config)
    if order is None:
        return np.ascontiguousarray(data)
    data = data.reshape(len(order), -1)  # a bias becomes a column
    return np.ascontiguousarray(data[np.argsort(order)])
