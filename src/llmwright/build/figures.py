"""The report's pictures: SVG in the text's own colour, so that they fit a light and a dark page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmwright.core import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#010203"  # replaced by currentColor: no other mark has this colour
_ACCENT = "#3b7dd8"


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",  # text stays text: searchable, and in the page's font
        "svg.hashsalt": "llmwright",  # the same picture, the same bytes
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), _INK),
        **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
    return figure, axes


def _svg(figure: Figure, label: str) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "llmwright"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"font: [^;\"]*?(\d+)px[^;\"]*", r"font: \1px system-ui, sans-serif", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def loss_curve(steps: Sequence[int], losses: Sequence[float]) -> str:
    """Training loss by step, with its running mean over a tenth of the run."""
    figure, axes = _figure(6.4, 2.6)
    window = max(1, len(losses) // 10)
    means = [
        sum(losses[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(losses))
    ]
    axes.plot(steps, losses, color=_INK, alpha=0.25, linewidth=1)
    axes.plot(steps, means, color=_ACCENT, linewidth=2)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats a token)")
    axes.set_ylim(bottom=0)
    return _svg(figure, "Training loss by step")


def intervals(scores: Sequence[Score]) -> str:
    """Scores between 0 and 1 as points with their 95% intervals."""
    shown = [(score, score.value) for score in scores if score.value is not None]
    figure, axes = _figure(6.4, 0.6 + 0.3 * len(shown))
    for row, (score, value) in enumerate(reversed(shown)):
        if score.low is not None and score.high is not None:
            axes.plot([score.low, score.high], [row, row], color=_ACCENT, linewidth=3, alpha=0.5)
        axes.plot([value], [row], "o", color=_ACCENT, markersize=6)
    axes.set_yticks(range(len(shown)), [score.name for score, _ in reversed(shown)])
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.grid(axis="x", color=_INK, alpha=0.15)
    return _svg(figure, "Scores with 95% intervals")


def stage_times(names: Sequence[str], seconds: Sequence[float]) -> str:
    """Seconds of each stage's run."""
    figure, axes = _figure(6.4, 0.6 + 0.28 * len(names))
    rows = range(len(names) - 1, -1, -1)
    axes.barh(rows, seconds, color=_ACCENT, alpha=0.7, height=0.6)
    for row, value in zip(rows, seconds, strict=True):
        axes.text(value, row, f" {value:.1f} s", va="center", color=_INK)
    axes.set_yticks(rows, names)
    axes.set_xlim(0, max(seconds) * 1.15 + 0.1)
    axes.set_xlabel("seconds")
    return _svg(figure, "Seconds by stage")
