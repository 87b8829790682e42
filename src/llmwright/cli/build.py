"""`llmwright build`: carry a recipe out, stage by stage, and write a release."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from llmwright.cli.options import PATH, json_option
from llmwright.cli.output import print_json, print_scores


@click.command(name="build")
@click.argument("recipe", type=PATH, default=Path())
@click.option("--out", type=PATH, help="The release. [default: release/ beside the recipe]")
@click.option(
    "--workspace", type=PATH, help="Finished stages. [default: .llmwright/ beside the recipe]"
)
@json_option
def command(recipe: Path, out: Path | None, workspace: Path | None, as_json: bool) -> None:
    """Turn RECIPE into a release.

    RECIPE is a file, or the folder that holds llmwright.toml; without one, this folder. Stages
    that stand are not run again; a build that was killed goes on where it stopped. Exits with 1
    where the release misses one of its gates.

    \b
    Example:
      llmwright build examples/handbook
    """
    from llmwright.build import build, headline, load_recipe, require_gates

    built = build(
        load_recipe(recipe), out=out, workspace=workspace, say=partial(click.echo, err=True)
    )
    if as_json:
        print_json(built.summary())
    else:
        if built.scores:
            print_scores(headline(built.scores.values()), as_json=False)
        for result in built.gates:
            click.echo(f"gate {'ok  ' if result.passed else 'FAIL'} {result}")
        click.echo(f"\nrelease  {built.folder}\nreport   {built.folder / 'report.html'}")
        click.echo(f"hash     {built.hash}")
        if built.passed:
            click.echo(f'\nask it   llmwright ask {built.folder} "your question"')
            click.echo(f"chat     llmwright chat {built.folder}")
            click.echo(f"serve it llmwright serve {built.folder}")
    require_gates(built.gates, where=str(built.folder / "report.html"))
