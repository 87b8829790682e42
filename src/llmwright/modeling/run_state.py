"""Where a training run stands, in one file: what is trained, both moments of AdamW, and the curve
so far. Tuning of adapters and of encoders goes on from it.

One safetensors file, replaced by a rename, so there is no moment at which a kill leaves none or
half of one. Nothing else decides what comes next: the order of the data, the dropout and the
learning rate are functions of the seed and the step. A run that goes on from here therefore
computes, bit for bit, what the undisturbed run would have.

The file carries the hash of all that decides the result. A run with another hash does not touch it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from llmwright.core import ConfigurationError, InputError, atomic_write

_MOMENTS = ("exp_avg", "exp_avg_sq")
Curve = list[dict[str, Any]]  # one record a step


def save_run(
    path: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    curve: Curve,
    identity: str,
) -> None:
    """Write the state after the last step of ``curve``."""
    tensors = {}
    for name, parameter in parameters.items():
        tensors[f"parameter.{name}"] = parameter.detach().contiguous()
        for moment in _MOMENTS:
            tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment].contiguous()
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, {"identity": identity, "curve": json.dumps(curve)})


def load_run(
    path: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    identity: str,
) -> Curve:
    """Put a saved state into the parameters and the optimizer; give the curve it had.

    Raises ``ConfigurationError`` where the checkpoint is another run's, ``InputError`` where it
    cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != identity:
                raise ConfigurationError(
                    "an unfinished run with other data, settings or base model stands here",
                    where=str(path.parent),
                    fix=f"remove {path.name}, or train into another folder",
                )
            curve: Curve = json.loads(metadata["curve"])
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(file.get_tensor(f"parameter.{name}"))
                    state = {moment: file.get_tensor(f"{moment}.{name}") for moment in _MOMENTS}
                    optimizer.state[parameter] = {
                        "step": torch.tensor(float(len(curve))),
                        **{key: value.to(parameter.device) for key, value in state.items()},
                    }
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise InputError(
            f"the checkpoint cannot be read ({error})",
            where=str(path),
            fix="remove it to start from the beginning",
        ) from error
    return curve
