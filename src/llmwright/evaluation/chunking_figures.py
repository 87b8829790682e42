"""The picture of a ``ChunkingReport``: recall against size, at equal hits and at equal tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmwright.core import PICTURE_STYLE
from llmwright.evaluation.chunking import ChunkingReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = {
    "recursive": "#2563eb",
    "fixed": "#6b7280",
    "structure": "#d97706",
    "sentence": "#059669",
    "semantic": "#7c3aed",
    "parent-child": "#db2777",
    "late": "#0891b2",
}
_SPREAD = 0.04  # how far lines stand apart at one size, as a share of the size


def draw_chunkings(report: ChunkingReport, folder: Path) -> list[Path]:
    """Write ``chunks.svg`` and ``chunks.png`` into ``folder``, and name them."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _lines(left, report, report.recall_at_top, f"first {report.top} hits")
        _lines(right, report, report.recall_in_tokens, f"first {report.tokens:,} tokens")
        left.set_ylabel("recall, with 95% interval")
        figure.legend(
            *left.get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False
        )
        written = []
        for ending in ("svg", "png"):
            path = folder / f"chunks.{ending}"
            metadata = {"Date": None} if ending == "svg" else {"Software": None}
            figure.savefig(path, dpi=150, metadata=metadata, facecolor="white")
            written.append(path)
    return written


def _lines(axes: Axes, report: ChunkingReport, name: str, title: str) -> None:
    """A line a strategy; its points stand a little beside those of the others."""
    strategies = list(dict.fromkeys(row.settings.strategy for row in report.rows))
    sizes = sorted({row.settings.size for row in report.rows})
    for place, strategy in enumerate(strategies):
        points = sorted(
            (row.settings.size, score.value, score.low, score.high)
            for row in report.rows
            if row.settings.strategy == strategy
            and (score := row.scores[name]).value is not None
            and score.low is not None
            and score.high is not None
        )
        if not points:
            continue
        beside = 1 + _SPREAD * (place - (len(strategies) - 1) / 2)
        axes.errorbar(
            [size * beside for size, *_ in points],
            [value for _, value, _, _ in points],
            yerr=[
                [max(0.0, value - low) for _, value, low, _ in points],
                [max(0.0, high - value) for _, value, _, high in points],
            ],
            color=_COLORS[strategy],
            marker="o",
            markersize=4,
            linewidth=1.5,
            elinewidth=0.8,
            capsize=2,
            label=strategy,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("size of a chunk, tokens")
    axes.set_title(title, fontsize=9)
    axes.grid(axis="y", alpha=0.2)
