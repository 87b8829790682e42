"""The linear map behind pooling that some encoders end with ("Dense" in sentence-transformers).

    v = W p        p: pooled token vectors [hidden], W: [dimension, hidden], no bias

A square orthogonal W turns the space: cosines stay what they were, but the first dimensions can be
made to carry the most (``training/rotation.py``). With fewer rows it gives shorter vectors. Costs
hidden * dimension products a text, a thousandth of the encoder's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmwright.core import ModelSourceError, read_json

_LINEAR = "torch.nn.modules.linear.Identity"


def projection_folder(folder: Path) -> Path | None:
    """Where an encoder's folder keeps its projection, if it has one."""
    path = folder / "modules.json"
    for module in read_json(path) if path.is_file() else []:
        if str(module.get("type", "")).endswith(".Dense"):
            return folder / str(module.get("path", ""))
    return None


def is_plain(folder: Path) -> bool:
    """Whether a projection is a product with one matrix and nothing else."""
    values: dict[str, Any] = dict(read_json(folder / "config.json"))
    return (
        values.get("activation_function") == _LINEAR
        and values.get("bias") is False
        and not values.get("use_residual")
        and values.get("module_input_name", "sentence_embedding") == "sentence_embedding"
        and values.get("module_output_name", "sentence_embedding") == "sentence_embedding"
        and (folder / "model.safetensors").is_file()
    )


def load_projection(folder: Path, hidden: int) -> Tensor:
    """W [dimension, hidden] in float32. Raises ``ModelSourceError``."""
    try:
        weight = load_file(folder / "model.safetensors")["linear.weight"]
    except (SafetensorError, OSError, KeyError) as error:
        raise ModelSourceError(
            f"the projection cannot be read ({error})",
            where=str(folder),
            fix="fetch the model again",
        ) from error
    if weight.dim() != 2 or weight.shape[1] != hidden:
        raise ModelSourceError(
            f"the projection is {tuple(weight.shape)}, of vectors of {hidden}",
            where=str(folder),
            fix="fetch the model again",
        )
    return weight.float().contiguous()


def save_projection(weight: Tensor, folder: Path) -> None:
    """Write W [dimension, hidden] as sentence-transformers reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = weight.shape
    config = {
        "in_features": columns,
        "out_features": rows,
        "bias": False,
        "activation_function": _LINEAR,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weight = weight.detach().to(device="cpu", dtype=torch.float32).contiguous()
    save_file({"linear.weight": weight}, folder / "model.safetensors")
