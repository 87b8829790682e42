"""Pictures of what vectors cost: quality by dimension, and embedders by quality and speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmwright.core import PICTURE_STYLE, Score
from llmwright.evaluation.dimensions import MEASURES, VectorForm
from llmwright.evaluation.embedder_choice import MEASURE, MODES, Candidate

_COLORS = ("#2563eb", "#d97706", "#059669", "#6b7280")


def draw_dimensions(forms: Sequence[VectorForm], path: Path) -> None:
    """Write ``path`` (.svg or .png): the first measure against bytes a passage, each with its
    95% interval, for vectors alone and as a shortlist for the full ones."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        again = "ranked again by full vectors"
        groups = (
            ("leading dimensions", ("full", "short"), False),
            (f"leading dimensions, {again}", ("short",), True),
            ("one byte, one bit", ("coded",), False),
            (f"one byte, one bit, {again}", ("coded",), True),
        )
        for number, ((label, kinds, look), color) in enumerate(zip(groups, _COLORS, strict=True)):
            group = [f for f in forms if f.kind in kinds and bool(f.shortlist) == look]
            scored = [f for f in group if f.score(MEASURES[0]).value is not None]
            if not scored:
                continue
            scores = [f.score(MEASURES[0]) for f in scored]
            line = "-" if number < 2 else ""
            axes.errorbar(
                [f.bytes * (1 + 0.02 * number) for f in scored],
                [s.value for s in scores],
                yerr=_spread(scores),
                color=color, marker="o", markersize=4, linestyle=line, linewidth=1.2, label=label,
                elinewidth=0.7,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xlabel("bytes a passage in the first ranking")
        axes.set_ylabel(MEASURES[0])
        axes.set_ylim(bottom=0)
        if axes.has_data():  # nothing is where all is unscored
            axes.legend(frameon=False, fontsize=8)

    _save(draw, (6.2, 3.4), path)


def draw_embedders(candidates: Sequence[Candidate], path: Path) -> None:
    """Write ``path`` (.svg or .png): each embedder's quality, with its 95% interval, against the
    passages it embeds a second."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for mode, color in zip(MODES, _COLORS, strict=False):
            scored = [c for c in candidates if c.scores[mode].value is not None]
            scores = [c.scores[mode] for c in scored]
            axes.errorbar(
                [c.passages_per_second for c in scored],
                [s.value for s in scores],
                yerr=_spread(scores),
                color=color, marker="o", markersize=4, linestyle="", elinewidth=0.7, label=mode,
            )  # fmt: skip
        for candidate in candidates:
            height = candidate.scores[MODES[-1]].value
            if height is not None:
                name = candidate.source.rstrip("/").rpartition("/")[2]
                place = (candidate.passages_per_second, height)
                axes.annotate(name, place, (5, 5), textcoords="offset points", fontsize=8)
        axes.set_xscale("log")
        axes.margins(x=0.25, y=0.15)
        axes.set_xlabel("passages indexed a second")
        axes.set_ylabel(MEASURE)
        axes.legend(frameon=False)

    _save(draw, (6.2, 3.4), path)


def _spread(scores: Sequence[Score]) -> list[list[float]]:
    """Lengths of the bars below and above each value."""
    values = [score.value or 0.0 for score in scores]
    below = [v - (s.low if s.low is not None else v) for s, v in zip(scores, values, strict=True)]
    above = [(s.high if s.high is not None else v) - v for s, v in zip(scores, values, strict=True)]
    return [[max(0.0, x) for x in below], [max(0.0, x) for x in above]]


def _save(draw: Any, size: tuple[float, float], path: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(PICTURE_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=150, metadata=metadata, facecolor="white")
