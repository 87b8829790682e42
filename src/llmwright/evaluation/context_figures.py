"""Pictures of a ``ContextReport``: perplexity by position, needles found by depth and length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmwright.core import PICTURE_STYLE
from llmwright.evaluation.context_report import ContextReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = {
    "none": "#6b7280",
    "linear": "#d97706",
    "ntk": "#059669",
    "dynamic": "#7c3aed",
    "yarn": "#2563eb",
}
_LEAST_PLACES = 16  # in a stretch of text whose mean is drawn


def draw_context(report: ContextReport, folder: Path) -> list[Path]:
    """Write what there is to see into ``folder``, each picture as SVG and PNG, and name it."""
    pictures = {"perplexity": _perplexity(report), "needles": _needles(report)}
    written = []
    import matplotlib as mpl

    for name, figure in pictures.items():
        if figure is None:
            continue
        for ending in ("svg", "png"):
            path = folder / f"{name}.{ending}"
            with mpl.rc_context(PICTURE_STYLE):
                metadata = {"Date": None} if ending == "svg" else {"Software": None}
                figure.savefig(path, dpi=150, metadata=metadata, facecolor="white")
            written.append(path)
    return written


def _figure(width: float, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, panels, squeeze=False)
    return figure, list(axes[0])


def _series(report: ContextReport, kind: str) -> list[tuple[str, bool]]:
    """(method, tuned or not) of the records of a kind, in their order."""
    return list(
        dict.fromkeys((r["method"], r["tuned"]) for r in report.records if r["kind"] == kind)
    )


def _perplexity(report: ContextReport) -> Figure | None:
    """A line a method: perplexity over stretches of text, by where they lie."""
    series = _series(report, "perplexity")
    if not series:
        return None
    lengths = sorted({n for r in report.records if r["kind"] == "perplexity" for n in r["lengths"]})
    figure, (axes,) = _figure(6.4, 3.6)
    for method, tuned in series:
        curve = sorted(report.curve(method, lengths[-1], tuned=tuned))
        points = _stretches(curve)
        axes.plot(
            [place for place, _ in points],
            [math.exp(-mean) for _, mean in points],
            color=_COLORS.get(method),
            linestyle="--" if tuned else "-",
            linewidth=1.8,
            label=f"{method}, tuned" if tuned else method,
        )
    axes.axvline(report.trained, color="#9ca3af", linewidth=1, linestyle=":")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [lengths[0] // 16, lengths[0] // 4, *lengths]
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    # Of the nine marks of a decade, 2 and 5 are enough to read by.
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.set_xlabel(f"position in the text (trained on {report.trained:,}: dotted)")
    axes.set_ylabel("perplexity")
    axes.legend(frameon=False, ncols=2)
    axes.grid(axis="y", alpha=0.2)
    return figure


def _stretches(curve: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """(middle, mean log-probability) of stretches a quarter of an octave wide, or wider where
    there are few places."""
    points: list[tuple[float, float]] = []
    held: list[tuple[int, float]] = []
    for place, logprob in curve:
        held.append((place, logprob))
        wide = place >= held[0][0] * 2**0.25
        if wide and len(held) >= _LEAST_PLACES:
            points.append(_mean_point(held))
            held = []
    if len(held) >= _LEAST_PLACES:
        points.append(_mean_point(held))
    return points


def _mean_point(held: Sequence[tuple[int, float]]) -> tuple[float, float]:
    middle = math.exp(math.fsum(math.log(place) for place, _ in held) / len(held))
    return middle, math.fsum(logprob for _, logprob in held) / len(held)


def _needles(report: ContextReport) -> Figure | None:
    """A map a method: how many of the needles were found, by depth and length."""
    series = _series(report, "needles")
    if not series:
        return None
    records = [r for r in report.records if r["kind"] == "needles"]
    lengths = sorted({r["length"] for r in records})
    depths = sorted({needle["depth"] for r in records for needle in r["found"]})
    figure, panels = _figure(1.0 + 1.5 * len(series), 1.2 + 0.32 * len(depths), len(series))
    for axes, (method, tuned) in zip(panels, series, strict=True):
        shares = [
            [report.found(method, length, depth, tuned=tuned).value for length in lengths]
            for depth in depths
        ]
        values = [[float("nan") if share is None else share for share in row] for row in shares]
        axes.imshow(values, vmin=0, vmax=1.4, cmap="Blues", aspect="auto")
        for row, line in enumerate(shares):
            for column, share in enumerate(line):
                if share is not None:
                    axes.text(column, row, f"{share:.2g}", ha="center", va="center", fontsize=8)
        axes.set_title(f"{method}, tuned" if tuned else method, fontsize=9)
        axes.set_xticks(range(len(lengths)), [_short(n) for n in lengths])
        axes.set_yticks(
            range(len(depths)), [f"{depth:.0%}" for depth in depths] if axes is panels[0] else []
        )
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
    panels[0].set_ylabel("depth of the needle")
    figure.supxlabel("tokens", fontsize=9)
    return figure


def _short(length: int) -> str:
    return f"{length // 1024}k" if length % 1024 == 0 else f"{length:,}"
