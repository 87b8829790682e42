"""The options by which every command that generates says how."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from llmwright.core import InputError, SamplingParams, read_text

Command = TypeVar("Command", bound=Callable[..., Any])

_SHARE = click.FloatRange(0, 1, min_open=True)
_OPTIONS = (
    click.option("--max-tokens", default=256, show_default=True, type=click.IntRange(1)),
    click.option(
        "--temperature",
        default=0.0,
        show_default=True,
        type=click.FloatRange(0, 100),
        help="0 takes the likeliest token, 1 draws as the model says.",
    ),
    click.option("--top-k", default=0, type=click.IntRange(0), help="Only the K likeliest tokens."),
    click.option("--top-p", default=1.0, type=_SHARE, help="Only the likeliest of this mass."),
    click.option(
        "--min-p",
        default=0.0,
        type=click.FloatRange(0, 1),
        help="Only tokens this likely, as a share of the likeliest.",
    ),
    click.option(
        "--typical-p", default=1.0, type=_SHARE, help="Only the most typical of this mass."
    ),
    click.option("--repetition-penalty", default=1.0, type=float, help="Above 1: say less again."),
    click.option(
        "--presence-penalty", default=0.0, type=float, help="Taken once from what was said."
    ),
    click.option(
        "--frequency-penalty", default=0.0, type=float, help="Taken for each time it was."
    ),
    click.option("--stop", multiple=True, help="End before this text; may be given again."),
    click.option("--min-tokens", default=0, type=click.IntRange(0), help="Before any end."),
    click.option("--seed", type=int, help="Repeat the same choices."),
    click.option("-n", "n", default=1, type=click.IntRange(1), help="So many answers."),
    click.option("--best-of", type=int, help="Draw so many, give the -n likeliest."),
    click.option("--num-beams", default=1, type=click.IntRange(1), help="Beam search."),
    click.option("--length-penalty", default=1.0, type=float, help="Of beams; above 1: longer."),
    click.option("--num-beam-groups", default=1, type=click.IntRange(1), help="Diverse beams."),
    click.option("--diversity-penalty", default=0.0, type=float, help="Between groups of beams."),
    click.option(
        "--penalty-alpha",
        default=0.0,
        type=click.FloatRange(0, 1),
        help="Contrastive search; 0.6 with --top-k 4 is usual.",
    ),
    click.option("--json-schema", metavar="FILE|JSON", help="Answer in JSON that obeys it."),
    click.option("--regex", help="Answer with what it matches."),
    click.option("--grammar", metavar="FILE", help="Answer with what a Lark grammar derives."),
)


def sampling_options(function: Command) -> Command:
    """Give a command every option of sampling; `sampling_params` reads them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def sampling_params(options: dict[str, Any]) -> SamplingParams:
    """The parameters from the options. Raises ``ConfigurationError`` where they contradict, and
    ``InputError`` for files that cannot be read."""
    schema, grammar = options["json_schema"], options["grammar"]
    if schema is not None and not schema.lstrip().startswith(("{", "true", "false")):
        schema = read_text(Path(schema))
        try:
            json.loads(schema)
        except ValueError as error:
            raise InputError(
                f"is no JSON: {error}", where=options["json_schema"], fix="write a JSON schema"
            ) from error
    if grammar is not None:
        grammar = read_text(Path(grammar))
    return SamplingParams(**{**options, "json_schema": schema, "grammar": grammar})
