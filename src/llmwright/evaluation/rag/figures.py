"""One picture of a ``RagReport``: what the questions are owed to, and what mending would bring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmwright.core import PICTURE_STYLE, Score
from llmwright.evaluation.rag.pipeline import RagReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = {"right": "#059669", "reached": "#059669"}


def draw_rag(report: RagReport, folder: Path) -> list[Path]:
    """Write ``rag.svg`` and ``rag.png`` into ``folder``, and name them."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        owed, mended = figure.subplots(1, 2)
        _bars(owed, report.parts, "share of questions owed to", report.bottleneck)
        _bars(mended, report.perfect, "share answered rightly", None)
        written = []
        for ending in ("svg", "png"):
            path = folder / f"rag.{ending}"
            metadata = {"Date": None} if ending == "svg" else {"Software": None}
            figure.savefig(path, dpi=150, metadata=metadata, facecolor="white")
            written.append(path)
    return written


def _bars(axes: Axes, scores: Sequence[Score], title: str, worst: str | None) -> None:
    """A bar a score with its interval, from top to bottom; unscored ones have none."""
    for place, score in enumerate(scores):
        if score.value is None:
            axes.text(0.01, place, "unscored", va="center", color="#6b7280")
            continue
        low, high = score.low or 0.0, score.high or 0.0
        color = "#d97706" if score.name == worst else _COLORS.get(score.name, "#2563eb")
        spread = [[max(0.0, score.value - low)], [max(0.0, high - score.value)]]
        axes.barh(place, score.value, xerr=spread, color=color, alpha=0.85, ecolor="#374151")
    axes.set_yticks(range(len(scores)), [score.name for score in scores])
    axes.set_ylim(len(scores) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_title(title, fontsize=9)
