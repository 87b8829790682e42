"""A model, loaded: decoder, tokenizer and where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from llmwright.core import ConfigurationError, DType, settings
from llmwright.modeling.checkpoint import load_safetensors
from llmwright.modeling.config import ModelConfig
from llmwright.modeling.decoder import Decoder
from llmwright.modeling.gguf_reader import load_gguf
from llmwright.modeling.sources import resolve
from llmwright.tokenization import Tokenizer, load_tokenizer, read_gguf


@dataclass(frozen=True, slots=True)
class Model:
    """``fingerprint`` is the content hash of the files it was read from."""

    decoder: Decoder
    tokenizer: Tokenizer
    source: str
    fingerprint: str

    @property
    def config(self) -> ModelConfig:
        return self.decoder.config

    @property
    def dtype(self) -> torch.dtype:
        return self.decoder.dtype


def load_model(source: str | Path, dtype: DType = "auto", *, packed: bool = False) -> Model:
    """Load a model by its source (see ``resolve``), fetching it when it is not here yet.

    ``"auto"`` is bfloat16 on processors that multiply it natively and float32 elsewhere. A
    quantized model is dequantized, and with ``packed`` keeps its few bits: its layers are then
    ``QuantizedLinear`` over the very codes of the file.
    Raises ``ModelSourceError`` where it cannot be found, read or run.
    """
    wanted = choose_dtype(dtype)
    if settings().threads:
        torch.set_num_threads(settings().threads)
    files = resolve(source)
    if files.kind == "gguf":
        header = read_gguf(files.path)
        decoder = load_gguf(header, wanted, packed=packed)
        tokenizer = load_tokenizer(header)
    else:
        decoder = load_safetensors(files.path, wanted, packed=packed)
        tokenizer = load_tokenizer(files.path)
    return Model(decoder, tokenizer, files.source, files.fingerprint)


def choose_dtype(dtype: DType) -> torch.dtype:
    """The dtype by its name; ``"auto"`` looks at the processor."""
    if dtype == "auto":
        return torch.bfloat16 if _native_bfloat16() else torch.float32
    if dtype not in ("float32", "bfloat16"):
        raise ConfigurationError(
            f"{dtype!r} is no dtype of a model", where="dtype", fix="use auto, float32 or bfloat16"
        )
    return torch.bfloat16 if dtype == "bfloat16" else torch.float32


def _native_bfloat16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
