"""Weights on disk: safetensors folders in and out (``gguf_reader`` reads GGUF files).

Nothing is executed: no pickle (``pytorch_model.bin``) is ever read. A checkpoint is whole or it is
an error: missing and surplus tensors, wrong shapes and cut files are named in one sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmwright.core import InputError, ModelSourceError, atomic_folder, read_json, write_json
from llmwright.modeling.config import ModelConfig
from llmwright.modeling.decoder import Decoder
from llmwright.modeling.packed_reader import read_packed
from llmwright.modeling.quantized import QuantizedWeight, quantized_weights, replace_linears
from llmwright.modeling.sources import weight_files

if TYPE_CHECKING:
    from llmwright.modeling.model import Model

NamedTensors = Iterable[tuple[str, Tensor | QuantizedWeight]]


def load_safetensors(folder: Path, dtype: torch.dtype, *, packed: bool = False) -> Decoder:
    """A decoder from a folder with config.json and safetensors, in one file or in shards.

    Quantized matrices (see ``packed_reader``) are dequantized, or with ``packed`` stay as they
    are, in ``QuantizedLinear``. Raises ``ModelSourceError``.
    """
    raw = read_json(folder / "config.json")
    where = str(folder)
    if not isinstance(raw, dict):
        raise ModelSourceError("config.json holds no object", where=where, fix="fetch it again")
    config = ModelConfig.from_hf(raw, str(folder / "config.json"))
    tensors: NamedTensors = _safetensors(folder)
    if settings := raw.get("quantization_config"):
        if not isinstance(settings, dict):
            raise ModelSourceError(
                "quantization_config is no object", where=where, fix="fetch it again"
            )
        tensors = read_packed(_safetensors(folder), settings, where)
        if not packed:
            tensors = _dequantized(tensors)
    return fill(config, tensors, dtype, where)


def _dequantized(tensors: NamedTensors) -> NamedTensors:
    for name, tensor in tensors:
        yield name, tensor.dequantize() if isinstance(tensor, QuantizedWeight) else tensor


def _safetensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for path in weight_files(folder, str(folder)):
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118  (not a dict)
                    yield key, file.get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise ModelSourceError(
                f"the weights cannot be read, the file is broken or cut short ({error})",
                where=str(path),
                fix="fetch the file again",
            ) from error


def fill(config: ModelConfig, tensors: NamedTensors, dtype: torch.dtype, where: str) -> Decoder:
    """Put named tensors into a decoder that had no memory until now. What comes quantized, under
    the name that its matrix would have, goes into quantized layers."""
    with torch.device("meta"):
        decoder = Decoder(config)
    wanted = {name: weight.shape for name, weight in decoder.named_parameters()}
    state: dict[str, Tensor] = {}
    quantized: dict[str, QuantizedWeight] = {}
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
            if isinstance(tensor, QuantizedWeight):
                quantized[name.removesuffix(".weight")] = tensor
            else:
                state[name] = tensor.to(dtype)
        elif not (name == "lm_head.weight" or name.endswith("rotary_emb.inv_freq")):
            surplus.append(name)
    there = {*state, *(f"{name}.weight" for name in quantized)}
    missing = [name for name in wanted if name not in there]
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
    replace_linears(decoder, quantized)
    return decoder.eval()


def save_checkpoint(model: Model, folder: Path) -> None:
    """Write a folder that transformers, vLLM and ``load_model`` read: weights in the model's
    dtype, configuration, generation configuration, tokenizer and chat template.

    The folder appears whole; an existing one is replaced. Raises ``InputError`` for a model with
    quantized layers: ``quantization`` writes those.
    """
    if quantized := quantized_weights(model.decoder):
        raise InputError(
            f"{len(quantized)} layers are quantized, and this writes whole weights",
            where=str(folder),
            fix="write the model with save_quantized or save_gguf",
        )
    # A tied output matrix is not named twice.
    parameters = model.decoder.named_parameters()
    write_folder(model, folder, {name: weight.detach() for name, weight in parameters})


def write_folder(
    model: Model, folder: Path, weights: Mapping[str, Tensor], more: Mapping[str, Any] | None = None
) -> None:
    """Write a model's folder with these weights, and what else its config.json shall hold."""
    config = {
        **model.config.to_dict(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "bos_token_id": model.tokenizer.bos_id,
        "eos_token_id": sorted(model.tokenizer.eos_ids) or None,
        "pad_token_id": model.tokenizer.pad_id,
        **(more or {}),
    }
    ends = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    state = {name: weight.contiguous() for name, weight in weights.items()}
    with atomic_folder(folder) as temporary:
        save_file(state, temporary / "model.safetensors", metadata={"format": "pt"})
        write_json(temporary / "config.json", config)
        write_json(temporary / "generation_config.json", ends)
        model.tokenizer.save(temporary)
