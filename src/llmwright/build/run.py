"""`build`: the whole way from a recipe to a release."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from llmwright.build.assistant import Models, is_path
from llmwright.build.gates import check_gates
from llmwright.build.pipeline import plan
from llmwright.build.recipe import Recipe
from llmwright.build.release import Built, measured, write_release
from llmwright.build.report import render_report
from llmwright.build.stage import Stage, StageResult, run_stages


def build(
    recipe: Recipe,
    *,
    out: Path | None = None,
    workspace: Path | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> Built:
    """Carry a recipe out and write a release, reusing every stage that stands.

    ``out`` defaults to `release/` and ``workspace`` to `.llmwright/`, both beside the recipe.
    ``say`` is told what happens, a line at a time. A release that misses a gate does not replace
    one that stands: it is written beside it as `release-failed/`; see ``Built.passed``.
    """
    out = out or recipe.locate("release")
    models = Models.find(
        _locate(recipe, recipe.model.base),
        _locate(recipe, recipe.retrieval.embedder),
        recipe.model.dtype,
        _locate(recipe, recipe.retrieval.rerank) if recipe.retrieval.rerank else "",
    )
    stages = plan(recipe, models)
    width = max(len(stage.name) for stage in stages)

    def observe(stage: Stage, result: StageResult | None) -> None:
        number = f"[{stages.index(stage) + 1}/{len(stages)}]"
        if result is None:
            say(f"{number} {stage.name}")
        elif result.reused:
            say(f"{number} {stage.name:<{width}}  unchanged")
        else:
            say(f"{number} {stage.name:<{width}}  {result.seconds:6.1f} s")

    results = run_stages(stages, workspace or recipe.locate(".llmwright"), observe)
    scores = measured(results)
    gates = check_gates(recipe.evaluation.gates, scores)
    built = Built(out, recipe, models, results, scores, gates)
    failed = out.with_name(out.name + "-failed")
    if built.passed:
        shutil.rmtree(failed, ignore_errors=True)
    else:
        built = replace(built, folder=failed)
    write_release(built, render_report(built))
    return built


def _locate(recipe: Recipe, source: str) -> str:
    """A model's source, its path taken from the recipe's folder."""
    return str(recipe.locate(source)) if is_path(source) else source
