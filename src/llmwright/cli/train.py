"""`llmwright train`: tune a model on chat records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from llmwright.cli.options import PATH, json_option, model_option, seed_option
from llmwright.cli.output import print_json


@click.command(name="train")
@model_option
@click.option(
    "--examples",
    required=True,
    type=PATH,
    help='JSONL of {"messages": [...]} or {"prompt", "completion"}.',
)
@click.option("--out", required=True, type=PATH, help="The adapter folder.")
@click.option("--rank", default=8, help="Of the update of each matrix.")
@click.option("--alpha", default=16, help="The update is scaled by alpha / rank.")
@click.option("--dropout", default=0.0, help="Share of the update's inputs dropped.")
@click.option("--targets", default="all-linear", help="Or names: q_proj,v_proj.")
@click.option("--epochs", default=3, help="Times that each example is seen.")
@click.option("--batch-size", default=4, help="Examples a step learns from.")
@click.option("--learning-rate", default=2e-4, help="At its highest, after the warm-up.")
@click.option("--max-length", default=1024, help="Tokens; longer examples are left out.")
@seed_option
@json_option
def command(
    model: str,
    examples: Path,
    out: Path,
    targets: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a LoRA adapter on chat records.

    The loss is on the assistant's turns; the adapter is in PEFT's format. Killed at any moment,
    the same command goes on from its last checkpoint and ends with the same adapter.

    \b
    Example:
      llmwright train --examples records.jsonl --out my-adapter --epochs 2
    """
    from llmwright.data import read_examples
    from llmwright.modeling import load_model
    from llmwright.training import LoraSettings, train_lora

    chosen = LoraSettings(
        targets=targets if targets == "all-linear" else tuple(targets.split(",")), **settings
    )
    records = read_examples(examples)
    result = train_lora(load_model(model), records, chosen, out)
    if as_json:
        print_json(
            {
                "adapter": str(out),
                "steps": result.steps,
                "tokens": result.tokens,
                "seconds": round(result.seconds, 1),
                "first_loss": result.losses[0],
                "last_loss": result.losses[-1],
            }
        )
        return
    click.echo(
        f"{out}: {result.steps} steps, {result.tokens} tokens, {result.seconds:.0f} s, "
        f"loss {result.losses[0]:.3f} to {result.losses[-1]:.3f}"
    )
    click.echo(f'try it: llmwright generate --model {model} --adapter {out} "a prompt"')
