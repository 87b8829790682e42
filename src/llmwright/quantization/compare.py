"""Several methods on one model, side by side: quantize, measure, write, recommend.

Each method gets a copy of the full model. What is calibrated on is not measured on. The
recommendation is a rule and no opinion: the smallest model whose perplexity is at most ``within``
above the full one's, or, where none is, the one with the lowest perplexity.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from torch import Tensor

from llmwright.core import InputError
from llmwright.modeling import (
    Decoder,
    GGUFType,
    Model,
    PackedFormat,
    choose_dtype,
    save_gguf,
    save_quantized,
)
from llmwright.quantization.measure import (
    Measurement,
    decode_speed,
    measure_model,
    recommend,
    reference,
)
from llmwright.quantization.methods import QuantizationSettings, quantize

_RUN = 32  # tokens that no two texts have in common by chance

Speed = Callable[[Decoder, Sequence[int]], float]


@dataclass(frozen=True, slots=True)
class Target:
    """Where quantized models are written, each under its name: as a folder in a packed format, or
    as one GGUF file."""

    folder: Path
    format: PackedFormat | GGUFType


@dataclass(frozen=True, slots=True)
class Comparison:
    full: Measurement
    results: tuple[Measurement, ...]
    recommended: Measurement
    within: float

    def record(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "full": asdict(self.full),
            "results": [asdict(result) for result in self.results],
            "recommended": self.recommended.name,
            "rule": self.rule,
        }

    @property
    def rule(self) -> str:
        """Which is recommended, and by what rule."""
        share = self.recommended.perplexity / self.full.perplexity - 1
        if share <= self.within:
            why = f"the smallest whose perplexity is within {self.within:.1%} of the full model's"
        else:
            why = f"none is within {self.within:.1%} of the full model's perplexity; the nearest"
        return f"{self.recommended.name}: {why} ({share:+.2%})"


def compare_models(
    model: Model,
    methods: Sequence[tuple[str, QuantizationSettings]],
    calibration: Tensor | None,
    held_out: Sequence[Sequence[int]],
    *,
    within: float = 0.02,
    target: Target | None = None,
    speed: Speed | None = decode_speed,
) -> Comparison:
    """Quantize ``model`` by each of the named methods and measure them on ``held_out`` token lists.

    ``calibration`` [sequences, time] is for the methods that look at data. ``speed`` is taken in
    bfloat16 where the processor has it, quality in the model's dtype. The model stays as it is.
    Raises ``InputError`` where calibration and held-out text are the same.
    """
    _check_apart(calibration, held_out)
    against = reference(model.decoder, held_out)
    prompt = [int(token) for token in against.token_ids[0][:64]]

    def timed(result: Measurement, decoder: Decoder) -> Measurement:
        if speed is None:
            return result
        decoder = decoder.to(choose_dtype("auto"))
        return replace(result, tokens_per_second=speed(decoder, prompt))

    full = measure_model("full", model.decoder, against)
    full = timed(full, copy.deepcopy(model.decoder))
    results = []
    for name, settings in methods:
        quantized = replace(model, decoder=copy.deepcopy(model.decoder))
        quantize(quantized.decoder, settings, calibration)
        result = measure_model(name, quantized.decoder, against)
        if target is not None:
            _write(quantized, name, target)
        results.append(timed(result, quantized.decoder))
    return Comparison(full, tuple(results), recommend(results, full, within), within)


def _check_apart(calibration: Tensor | None, held_out: Sequence[Sequence[int]]) -> None:
    if calibration is None:
        return
    stream = calibration.flatten().tolist()
    seen = set(_runs(stream))
    if any(run in seen for piece in held_out for run in _runs(piece)):
        raise InputError(
            f"{_RUN} tokens that are measured on stand in the calibration text as well, and "
            "figures would be too good",
            fix="give other files, or no text to measure on: then some is set aside",
        )


def _runs(tokens: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return (tuple(tokens[start : start + _RUN]) for start in range(len(tokens) - _RUN + 1))


def _write(model: Model, name: str, target: Target) -> None:
    if target.format in get_args(GGUFType):
        target.folder.mkdir(parents=True, exist_ok=True)
        save_gguf(model, target.folder / f"{name}.gguf", cast("GGUFType", target.format))
    else:
        save_quantized(model, target.folder / name, cast("PackedFormat", target.format))
