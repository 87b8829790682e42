"""Weights on disk: safetensors folders and GGUF files in, safetensors folders out.

GGUF tensors are dequantized by the ``gguf`` package (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K,
Q6_K and whatever else it knows). llama.cpp stores the rows of the query and key projections of
Llama models in another order, since its rotary embedding turns neighbours (2i, 2i + 1) where
Hugging Face's turns (i, i + d/2); the reader puts them back.

Nothing is executed: no pickle (``pytorch_model.bin``) is ever read. A checkpoint is whole or it is
an error: missing and surplus tensors, wrong shapes and cut files are named in one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from gguf import quants
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmwright.core import ModelSourceError, atomic_folder, read_json, write_json
from llmwright.modeling.config import ModelConfig
from llmwright.modeling.decoder import Decoder
from llmwright.modeling.sources import missing_shards
from llmwright.tokenization import GGUFHeader, GGUFTensor

if TYPE_CHECKING:
    from llmwright.modeling.model import Model

NamedTensors = Iterable[tuple[str, Tensor]]

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


def load_safetensors(folder: Path, dtype: torch.dtype) -> Decoder:
    """A decoder from a folder with config.json and safetensors, in one file or in shards.

    Raises ``ModelSourceError``.
    """
    raw = read_json(folder / "config.json")
    where = str(folder)
    if not isinstance(raw, dict):
        raise ModelSourceError("config.json holds no object", where=where, fix="fetch it again")
    if raw.get("quantization_config"):
        raise ModelSourceError(
            "the weights are quantized in a form that is not read here",
            where=where,
            fix="use the model's unquantized checkpoint or a GGUF file",
        )
    config = ModelConfig.from_hf(raw, str(folder / "config.json"))
    return _fill(config, _safetensors(folder), dtype, where)


def _safetensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        if missing := missing_shards(folder):
            raise ModelSourceError(
                f"the shard {missing[0]} is missing", where=str(folder), fix="fetch it again"
            )
        names = sorted(set(read_json(index)["weight_map"].values()))
    else:
        names = sorted(path.name for path in folder.glob("*.safetensors"))
    for name in names:
        try:
            with safe_open(folder / name, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118  (not a dict)
                    yield key, file.get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise ModelSourceError(
                f"the weights cannot be read, the file is broken or cut short ({error})",
                where=str(folder / name),
                fix="fetch the file again",
            ) from error


def load_gguf(header: GGUFHeader, dtype: torch.dtype) -> Decoder:
    """A decoder from a GGUF file of the Llama architecture. Raises ``ModelSourceError``."""
    where = str(header.path)
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelSourceError("has no token embedding", where=where, fix="use a whole model file")
    if "rope_freqs.weight" in header.tensors:
        raise ModelSourceError(
            "it scales rotary frequencies (rope_freqs)",
            where=where,
            fix="this engine runs the Llama family with plain rotary embedding",
        )
    config = ModelConfig.from_gguf(
        header.metadata,
        tied="output.weight" not in header.tensors,
        vocab_size=embedding.shape[0],
        where=where,
    )
    return _fill(config, _gguf(header, config), dtype, where)


def _gguf(header: GGUFHeader, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    content = np.asarray(np.memmap(header.path, mode="r", dtype=np.uint8))
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for tensor in header.tensors.values():
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


def _fill(config: ModelConfig, tensors: NamedTensors, dtype: torch.dtype, where: str) -> Decoder:
    """Put named tensors into a decoder that had no memory until now."""
    with torch.device("meta"):
        decoder = Decoder(config)
    wanted = {name: weight.shape for name, weight in decoder.named_parameters()}
    state: dict[str, Tensor] = {}
    surplus = []
    for name, tensor in tensors:
        if name in wanted:
            if tensor.shape != wanted[name]:
                raise ModelSourceError(
                    f"tensor {name!r} is {list(tensor.shape)}, and its configuration says "
                    f"{list(wanted[name])}",
                    where=where,
                    fix="weights and configuration must be of one model",
                )
            state[name] = tensor.to(dtype)
        elif not (name == "lm_head.weight" or name.endswith("rotary_emb.inv_freq")):
            surplus.append(name)
    missing = [name for name in wanted if name not in state]
    for kind, names in (("lacks", missing), ("has, beyond what the model knows,", surplus)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelSourceError(
                f"the checkpoint {kind} the tensor {names[0]!r}{more}",
                where=where,
                fix="fetch it again, or check that it is a Llama model",
            )
    decoder.load_state_dict(state, strict=False, assign=True)
    decoder.tie_weights()
    return decoder.eval()


def save_checkpoint(model: Model, folder: Path) -> None:
    """Write a folder that transformers, vLLM and ``load_model`` read: weights in the model's
    dtype, configuration, generation configuration, tokenizer and chat template.

    The folder appears whole; an existing one is replaced.
    """
    config = {
        **model.config.to_dict(),
        "dtype": str(model.decoder.dtype).removeprefix("torch."),
        "bos_token_id": model.tokenizer.bos_id,
        "eos_token_id": sorted(model.tokenizer.eos_ids) or None,
        "pad_token_id": model.tokenizer.pad_id,
    }
    ends = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    # A tied output matrix is not named twice.
    parameters = model.decoder.named_parameters()
    state = {name: weight.detach().contiguous() for name, weight in parameters}
    with atomic_folder(folder) as temporary:
        save_file(state, temporary / "model.safetensors", metadata={"format": "pt"})
        write_json(temporary / "config.json", config)
        write_json(temporary / "generation_config.json", ends)
        model.tokenizer.save(temporary)
