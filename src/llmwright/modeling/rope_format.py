"""Rotary scaling as files say it: config.json of Hugging Face, and GGUF.

config.json, in transformers' words up to 4 (``rope_scaling`` beside ``rope_theta``) and from 5 on
(``rope_parameters``, which holds both); the former is written, since everything reads it. NTK-aware
scaling has no word there and needs none: it is another base.

GGUF knows ``linear``, ``yarn`` and ``longrope`` by metadata, and divisors of each pair as tensors:
``rope_freqs`` (which is how llama.cpp's converter stores Llama 3's scaling), ``rope_factors_long``
and ``rope_factors_short``. Dynamic NTK has no form in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from llmwright.core import ConfigurationError, ModelSourceError
from llmwright.modeling.rope_scaling import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    NTKScaling,
    RopeScaling,
    YarnScaling,
    ntk_theta,
    plain_frequencies,
)

GGUF_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
_NAMES = {
    LinearScaling: "linear",
    DynamicScaling: "dynamic",
    YarnScaling: "yarn",
    LongRopeScaling: "longrope",
    Llama3Scaling: "llama3",
}


@dataclass(frozen=True, slots=True)
class Rope:
    """What a configuration says of rotary embedding. ``context`` is the length it serves."""

    theta: float
    scaling: RopeScaling | None
    context: int


def rope_from_hf(raw: Mapping[str, Any], where: str) -> Rope:
    """Read a config.json. Raises ``ModelSourceError`` for a scaling that is not known, and
    ``KeyError``, ``TypeError`` or ``ValueError`` where a field is missing or broken."""
    rope = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    share = float(rope.get("partial_rotary_factor") or raw.get("partial_rotary_factor") or 1.0)
    for what, found in (
        (f"turns {share:g} of the dimensions", share != 1),
        ("differs by layer", any(isinstance(value, Mapping) for value in rope.values())),
    ):
        if found:
            raise ModelSourceError(
                f"the rotary embedding {what}",
                where=where,
                fix="this engine turns all dimensions, in every layer alike",
            )
    context = int(raw.get("max_position_embeddings", 2048))
    theta = float(rope.get("rope_theta") or raw.get("rope_theta") or 10_000.0)
    # Phi-3 keeps the trained length beside, not within; transformers lets that one win.
    trained = raw.get("original_max_position_embeddings") or rope.get(
        "original_max_position_embeddings"
    )
    trained = int(trained or context)
    extended = float(rope.get("factor") or context / trained)  # where it may be left out
    scaling: RopeScaling | None
    if kind == "default":
        scaling = None
    elif kind == "linear":
        scaling = LinearScaling(float(rope["factor"]))
    elif kind == "ntk":
        scaling = NTKScaling(float(rope["factor"]))
    elif kind == "dynamic":
        # Here transformers' max_position_embeddings is the trained length.
        scaling = DynamicScaling(float(rope["factor"]), context)
        context = int(context * scaling.factor)
    elif kind == "yarn":
        scaling = YarnScaling(
            extended,
            trained,
            beta_fast=float(rope.get("beta_fast") or 32),
            beta_slow=float(rope.get("beta_slow") or 1),
            attention_factor=_maybe(rope.get("attention_factor")),
            mscale=_maybe(rope.get("mscale")),
            mscale_all_dim=_maybe(rope.get("mscale_all_dim")),
            truncate=bool(rope.get("truncate", True)),
        )
    elif kind in ("longrope", "su"):
        scaling = LongRopeScaling(
            tuple(map(float, rope["short_factor"])),
            tuple(map(float, rope["long_factor"])),
            trained,
            extended,
            _maybe(rope.get("attention_factor")),
        )
    elif kind == "llama3":
        scaling = Llama3Scaling(
            float(rope["factor"]),
            float(rope["low_freq_factor"]),
            float(rope["high_freq_factor"]),
            trained,
        )
    else:
        raise ModelSourceError(
            f"the rotary scaling is {kind!r}",
            where=where,
            fix=f"this engine knows default, ntk, {', '.join(_NAMES.values())}",
        )
    return Rope(theta, scaling, context)


def rope_to_hf(rope: Rope, head_dim: int) -> dict[str, Any]:
    """The fields of config.json that say it."""
    theta, scaling, context = rope.theta, rope.scaling, rope.context
    if isinstance(scaling, NTKScaling):
        theta, scaling = ntk_theta(theta, scaling.factor, head_dim), None
    fields: dict[str, Any] = {"max_position_embeddings": context, "rope_theta": theta}
    if scaling is None:
        return fields
    values = asdict(scaling)  # type: ignore[call-overload]
    if isinstance(scaling, DynamicScaling):
        fields["max_position_embeddings"] = values.pop("original_max_position_embeddings")
    values = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
        if value is not None
    }
    return {**fields, "rope_scaling": {"rope_type": _NAMES[type(scaling)], **values}}


def rope_from_gguf(
    metadata: Mapping[str, Any], factors: Mapping[str, Sequence[float]], context: int, where: str
) -> RopeScaling | None:
    """Read GGUF metadata and the tensors of ``GGUF_TENSORS`` that the file has.

    Raises ``ModelSourceError`` for combinations that llama.cpp's converter does not write.
    """

    def number(name: str, default: float) -> float:
        # Stored in 32 bits: 0.1 comes back as 0.10000000149.
        return float(f"{float(metadata.get(f'llama.rope.scaling.{name}', default)):.7g}")

    kind = metadata.get("llama.rope.scaling.type", "none")
    old = float(metadata.get("llama.rope.scale_linear", 1.0))  # before there were types
    factor = number("factor", old) or 1.0  # llama.cpp reads 0 as 1
    trained = int(metadata.get("llama.rope.scaling.original_context_length", context))
    attention = number("attn_factor", 1.0) * number("yarn_attn_factor", 1.0)
    divisors = {name: tuple(map(float, values)) for name, values in factors.items()}
    blend = number("yarn_ext_factor", -1.0)  # how much of the ramp; negative: as the type says
    if kind in ("none", "linear") and divisors.keys() <= {"rope_freqs.weight"}:
        factor = 1.0 if kind == "none" and old == 1.0 else factor
        if divisors:
            each = tuple(factor * value for value in divisors["rope_freqs.weight"])
            return LongRopeScaling(each, each, context, 1.0, 1.0)
        return LinearScaling(factor) if factor != 1 else None
    if kind == "yarn" and not divisors and blend in (-1.0, 1.0):
        multiplier = number("yarn_log_multiplier", 0.0)
        scaling = YarnScaling(
            factor,
            trained,
            number("yarn_beta_fast", 32.0),
            number("yarn_beta_slow", 1.0),
            mscale=1.0 if multiplier else None,
            mscale_all_dim=multiplier or None,
        )
        if attention == 1.0:
            return scaling
        return replace(scaling, attention_factor=attention * scaling.amplitude)
    if kind == "longrope" and divisors.keys() == set(GGUF_TENSORS[1:]):
        long, short = (divisors[name] for name in GGUF_TENSORS[1:])
        return LongRopeScaling(short, long, trained, max(1.0, context / trained), attention)
    beside = f" with {' and '.join(divisors)}" if divisors else ""
    raise ModelSourceError(
        f"the rotary scaling is {kind!r}{beside}",
        where=where,
        fix="this engine reads linear, yarn and longrope as llama.cpp's converter writes them",
    )


def rope_to_gguf(
    rope: Rope, head_dim: int
) -> tuple[dict[str, str | int | float], dict[str, list[float]]]:
    """Metadata (``llama.`` keys) and tensors, float32, of a GGUF file that say it.

    Raises ``ConfigurationError`` for dynamic NTK, which the format cannot say.
    """
    theta, scaling = rope.theta, rope.scaling
    if isinstance(scaling, NTKScaling):
        theta, scaling = ntk_theta(theta, scaling.factor, head_dim), None
    keys: dict[str, str | int | float] = {"llama.rope.freq_base": theta}
    tensors: dict[str, list[float]] = {}
    if isinstance(scaling, DynamicScaling):
        raise ConfigurationError(
            "GGUF has no form for dynamic NTK scaling",
            where="rope_scaling",
            fix="use NTK-aware, YaRN or linear scaling, or export as safetensors",
        )
    start = "llama.rope.scaling."
    if isinstance(scaling, LinearScaling):
        keys |= {f"{start}type": "linear", f"{start}factor": scaling.factor}
    elif isinstance(scaling, YarnScaling):
        keys |= {
            f"{start}type": "yarn",
            f"{start}factor": scaling.factor,
            f"{start}original_context_length": scaling.original_max_position_embeddings,
            f"{start}yarn_beta_fast": scaling.beta_fast,
            f"{start}yarn_beta_slow": scaling.beta_slow,
        }
        # llama.cpp multiplies by 0.1 ln s + 1 by itself.
        beyond = scaling.amplitude / (0.1 * math.log(scaling.factor) + 1.0)
        if not math.isclose(beyond, 1.0):
            keys[f"{start}attn_factor"] = beyond
    elif isinstance(scaling, LongRopeScaling) and (
        scaling.depends_on_length or scaling.amplitude != 1
    ):
        keys |= {
            f"{start}type": "longrope",
            f"{start}original_context_length": scaling.original_max_position_embeddings,
            f"{start}attn_factor": scaling.amplitude,
        }
        long, short = GGUF_TENSORS[1:]
        tensors = {long: list(scaling.long_factor), short: list(scaling.short_factor)}
    elif scaling is not None:  # one divisor a pair says everything that is left
        scaled = scaling.frequencies(head_dim, theta, torch.tensor(rope.context))
        tensors["rope_freqs.weight"] = (plain_frequencies(head_dim, theta) / scaled).tolist()
    return keys, tensors


def _maybe(value: Any) -> float | None:
    return None if value is None else float(value)
