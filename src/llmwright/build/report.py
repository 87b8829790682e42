"""`report.html`: one self-contained page. The verdict first, then figures with intervals, what
went wrong and what went well, with sources, and how long each stage took."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmwright import __version__
from llmwright.build import figures
from llmwright.build.gates import headline
from llmwright.build.release import Built
from llmwright.build.stage import StageResult
from llmwright.core import read_jsonl, read_text

_SHOWN = 4  # examples of each kind
_TEMPLATES = Path(__file__).parent / "templates"


def render_report(built: Built) -> str:
    """The page as text. All that came out of documents or a model is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    stages = built.stages
    shown = headline(built.scores.values())
    within_one = [score for score in shown if not score.name.startswith("perplexity")]
    answers = _records(stages, "answers")
    scored = [record for record in answers if record["token_f1"] is not None]
    ranked = sorted(scored, key=lambda record: (-record["token_f1"], record["id"]))
    half = (len(ranked) + 1) // 2
    return environment.get_template("report.html").render(
        version=__version__,
        built=built,
        recipe=built.recipe,
        recipe_text=read_text(built.recipe.path),
        scores=shown,
        intervals=figures.intervals(within_one) if within_one else "",
        curve=_curve(stages),
        times=figures.stage_times(list(stages), [result.seconds for result in stages.values()]),
        misses=[r for r in _records(stages, "retrieval") if None in r["found_at"]][:_SHOWN],
        good=ranked[: min(_SHOWN, half)],
        bad=list(reversed(ranked[half:]))[:_SHOWN],
        unscored=[record for record in answers if record["token_f1"] is None],
    )


def _records(stages: Mapping[str, StageResult], name: str) -> list[dict[str, Any]]:
    return read_jsonl(stages[name].output / "records.jsonl") if name in stages else []


def _curve(stages: Mapping[str, StageResult]) -> str:
    if "adapter" not in stages:
        return ""
    points = read_jsonl(stages["adapter"].output / "adapter" / "curve.jsonl")
    return figures.loss_curve([p["step"] for p in points], [p["loss"] for p in points])
