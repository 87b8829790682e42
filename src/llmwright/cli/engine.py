"""The options of commands that run a model on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        default="auto",
        show_default=True,
        help="What weights that are not packed are computed in.",
    ),
    click.option("--packed", is_flag=True, help="Keep quantized weights as they lie in the file."),
    click.option(
        "--kv-dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "int8"]),
        default="auto",
        show_default=True,
        help="What keys and values are cached in.",
    ),
    click.option(
        "--cache-tokens",
        type=click.IntRange(min=1),
        help="Tokens that the cache holds. [default: 1 GiB, at least one context]",
    ),
    click.option(
        "--max-sequences",
        type=click.IntRange(min=1),
        default=32,
        show_default=True,
        help="Answers computed in one pass.",
    ),
    click.option(
        "--speculate",
        type=click.Choice(["ngram"]),
        help="Draft tokens from the text itself; the answers stay the same.",
    ),
)


def engine_options(command: Command) -> Command:
    """Add the options; the command hands them on to ``open_chat_model``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_engine_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take those of ``engine_options`` out of a command's options."""
    names = ("dtype", "packed", "kv_dtype", "cache_tokens", "max_sequences", "speculate")
    return {name: options.pop(name) for name in names}
