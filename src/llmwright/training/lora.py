"""LoRA: a frozen weight plus a trained product of two thin matrices.

    y = W x + (alpha / r) B A x,    A [r, in], B [out, r]

Hu et al., 2021, arXiv 2106.09685. A starts uniform in +-1/sqrt(in) and B at zero, so training
starts at the base model. r (in + out) numbers a layer are trained, and the gradient of W, a third
of a training step, is never computed.

The factors are float32 masters whatever the model's dtype: steps of 1e-4 vanish in bfloat16. Each
use rounds them to the dtype of what flows through (they are thin, so this is cheap), and the
product is added to the base layer's output in one ``addmm``. PEFT's layer keeps the flow in the
factors' float32 and adds in three passes over it: on a bfloat16 model that is 1.2 times the time
and 1.6 times the memory of a training step. The files are PEFT's own (its names, its
``adapter_config.json``), read by transformers, vLLM and everything else that reads those.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from llmwright.core import ConfigurationError, atomic_write, write_json
from llmwright.training.config import LoraSettings

FILES = ("adapter_config.json", "adapter_model.safetensors")
_PREFIX = "base_model.model."  # PEFT's wrapper inside its wrapper


class LoraLinear(nn.Module):
    """A frozen linear layer with its two factors beside it."""

    def __init__(self, base_layer: nn.Linear, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        place = base_layer.weight.device
        self.base_layer = base_layer
        self.lora_A = nn.Parameter(torch.zeros(rank, base_layer.in_features, device=place))
        self.lora_B = nn.Parameter(torch.zeros(base_layer.out_features, rank, device=place))
        self.scale = scale
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        y = self.base_layer(x)  # [..., out]
        a, b = self.lora_A.to(y.dtype), (self.scale * self.lora_B).to(y.dtype)
        thin = F.linear(F.dropout(x, self.dropout, self.training), a)  # [..., r]
        return torch.addmm(y.flatten(0, -2), thin.flatten(0, -2), b.t()).view_as(y)


def add_lora(decoder: nn.Module, settings: LoraSettings) -> None:
    """Freeze ``decoder`` and put factors beside the layers that ``settings.targets`` names.

    Raises ``ConfigurationError`` where a name fits no linear layer, with the nearest that do.
    """
    names = _matching(decoder, settings.targets)
    decoder.requires_grad_(False)
    for number, name in enumerate(names):
        layer = LoraLinear(
            decoder.get_submodule(name),  # type: ignore[arg-type]
            settings.rank,
            settings.scale,
            settings.dropout,
        )
        # On the CPU, from a seed of its own: equal on every device and for every order of layers.
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + number)
        bound = 1 / math.sqrt(layer.base_layer.in_features)
        start = torch.empty(layer.lora_A.shape).uniform_(-bound, bound, generator=generator)
        with torch.no_grad():
            layer.lora_A.copy_(start)
        _replace(decoder, name, layer)


def remove_lora(decoder: nn.Module) -> None:
    """Give the decoder its own layers back; the factors are forgotten."""
    for name, layer in _lora_layers(decoder):
        _replace(decoder, name, layer.base_layer)


def lora_parameters(decoder: nn.Module) -> dict[str, nn.Parameter]:
    """The factors under the names PEFT's files give them, in the model's order."""
    parameters = {}
    for name, layer in _lora_layers(decoder):
        parameters[f"{_PREFIX}{name}.lora_A.weight"] = layer.lora_A
        parameters[f"{_PREFIX}{name}.lora_B.weight"] = layer.lora_B
    return parameters


def save_adapter(decoder: nn.Module, settings: LoraSettings, source: str, folder: Path) -> None:
    """Write PEFT's two files. ``source`` names the base model the factors belong to."""
    tensors = {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in lora_parameters(decoder).items()
    }
    config: dict[str, Any] = {
        "base_model_name_or_path": source,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": settings.rank,
        "target_modules": _for_peft(decoder, settings.targets),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    write_json(folder / FILES[0], config)
    with atomic_write(folder / FILES[1]) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def _matching(decoder: nn.Module, targets: str | Sequence[str]) -> list[str]:
    linear = [
        name
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] != "lm_head"
    ]
    if targets == "all-linear":
        return linear
    wanted = [targets] if isinstance(targets, str) else list(targets)
    for target in wanted:
        if not any(_fits(name, target) for name in linear):
            raise _unknown_target(target, linear)
    return [name for name in linear if any(_fits(name, target) for target in wanted)]


def _fits(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _unknown_target(target: str, linear: Iterable[str]) -> ConfigurationError:
    known = list(dict.fromkeys(name.rpartition(".")[2] for name in linear))
    near = difflib.get_close_matches(target, [*known, "all-linear"], n=3, cutoff=0.5)
    if target == "lm_head":
        fix = "the output matrix stays frozen; name other layers"
    elif near:
        fix = f"use {' or '.join(near)}, the nearest there are"
    else:
        fix = f"use {', '.join(known)} or all-linear"
    return ConfigurationError(f"no linear layer is called {target!r}", where="targets", fix=fix)


def _for_peft(decoder: nn.Module, targets: str | Sequence[str]) -> list[str]:
    if targets != "all-linear":
        return sorted([targets] if isinstance(targets, str) else set(targets))
    return sorted({name.rpartition(".")[2] for name, _ in _lora_layers(decoder)})


def _lora_layers(decoder: nn.Module) -> list[tuple[str, LoraLinear]]:
    return [(n, layer) for n, layer in decoder.named_modules() if isinstance(layer, LoraLinear)]


def _replace(decoder: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(decoder.get_submodule(parent), own, module)
