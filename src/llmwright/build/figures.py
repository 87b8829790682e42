"""The report's pictures: SVG in the text's own colour, so that they fit a light and a dark page."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llmwright.core import PICTURE_STYLE, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK = "#010203"  # replaced by currentColor: no other mark has this colour
_ACCENT = "#3b7dd8"
_STYLE: Any = {
    **PICTURE_STYLE,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), _INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
}


def _svg(label: str, width: float, height: float, draw: Callable[[Axes], None]) -> str:
    """What ``draw`` puts on axes of so many inches, as an element of a page."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue().replace(_INK, "currentColor")
    return text[text.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def loss_curve(steps: Sequence[int], losses: Sequence[float]) -> str:
    """Training loss by step, with its running mean over a tenth of the run."""
    window = max(1, len(losses) // 10)
    recent = [losses[max(0, end - window) : end] for end in range(1, len(losses) + 1)]

    def draw(axes: Axes) -> None:
        axes.plot(steps, losses, color=_INK, alpha=0.25, linewidth=1)
        axes.plot(steps, [sum(part) / len(part) for part in recent], color=_ACCENT, linewidth=2)
        axes.set_xlabel("step")
        axes.set_ylabel("loss (nats a token)")
        axes.set_ylim(bottom=0)

    return _svg("Training loss by step", 6.4, 2.6, draw)


def intervals(scores: Sequence[Score]) -> str:
    """Scores between 0 and 1 as points with their 95% intervals, the first one on top."""
    shown = [(score, score.value) for score in reversed(scores) if score.value is not None]

    def draw(axes: Axes) -> None:
        for row, (score, value) in enumerate(shown):
            if score.low is not None and score.high is not None:
                ends = [score.low, score.high]
                axes.plot(ends, [row, row], color=_ACCENT, linewidth=3, alpha=0.5)
            axes.plot([value], [row], "o", color=_ACCENT, markersize=6)
        axes.set_yticks(range(len(shown)), [score.name for score, _ in shown])
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.grid(axis="x", color=_INK, alpha=0.15)

    return _svg("Scores with 95% intervals", 6.4, 0.6 + 0.3 * len(shown), draw)


def stage_times(names: Sequence[str], seconds: Sequence[float]) -> str:
    """Seconds of each stage's run, the first one on top."""
    rows = range(len(names) - 1, -1, -1)

    def draw(axes: Axes) -> None:
        axes.barh(rows, seconds, color=_ACCENT, alpha=0.7, height=0.6)
        for row, value in zip(rows, seconds, strict=True):
            axes.text(value, row, f" {value:.1f} s", va="center")
        axes.set_yticks(rows, names)
        axes.set_xlim(0, max(seconds) * 1.15 + 0.1)
        axes.set_xlabel("seconds")

    return _svg("Seconds by stage", 6.4, 0.6 + 0.28 * len(names), draw)
