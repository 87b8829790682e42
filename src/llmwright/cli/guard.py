"""`llmwright guard`: hold texts against a policy."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from llmwright.cli.options import PATH, json_option
from llmwright.cli.output import print_json
from llmwright.core import read_jsonl, write_jsonl


@click.group(name="guard")
def command() -> None:
    """Hold texts against a policy.

    Length, control characters, injection and personal data.

    \b
    Example:
      llmwright guard check --texts prompts.jsonl --out verdicts.jsonl
    """


@command.command(name="check")
@click.option("--policy", type=PATH, help="TOML. [default: the built-in policy]")
@click.option("--texts", required=True, type=PATH, help='JSONL of {"text"} (and {"id"}).')
@click.option("--out", required=True, type=PATH, help="Where the verdicts go, as JSONL.")
@click.option(
    "--side",
    type=click.Choice(["input", "output"]),
    default="input",
    help="Whether the texts go to the model or come from it.",
)
@json_option
def check(policy: Path | None, texts: Path, out: Path, side: str, as_json: bool) -> None:
    """Write a verdict for every text.

    Allowed or not, the findings, and the text with personal data hidden.

    \b
    Example:
      llmwright guard check --policy policy.toml --texts prompts.jsonl --out verdicts.jsonl
    """
    from llmwright.safety import Policy, check_input, check_output, load_policy

    rules = load_policy(policy) if policy else Policy()
    decide = check_input if side == "input" else check_output
    records = read_jsonl(texts, "text")
    verdicts = [
        {
            **({"id": record["id"]} if "id" in record else {}),
            **decide(record["text"], rules).as_dict(),
        }
        for record in records
    ]
    write_jsonl(out, verdicts)
    refused = sum(not verdict["allowed"] for verdict in verdicts)
    kinds = Counter(finding["kind"] for verdict in verdicts for finding in verdict["findings"])
    if as_json:
        print_json({"texts": len(verdicts), "refused": refused, "findings": dict(kinds)})
        return
    found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "none"
    click.echo(f"{len(verdicts)} texts, {refused} refused; findings: {found}")
