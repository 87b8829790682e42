"""A picture of a training run: the loss of every step, and its running mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmwright.core import PICTURE_STYLE
from llmwright.embeddings.training.loop import EncoderStep

_KEPT = 0.9  # of the running mean, at each step


def draw_curve(curve: Sequence[EncoderStep], path: Path) -> None:
    """Write ``path`` (.svg or .png)."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    means, weight, total = [], 0.0, 0.0
    for step in curve:
        weight, total = _KEPT * weight + 1, _KEPT * total + step.loss
        means.append(total / weight)
    steps = [step.step for step in curve]
    with mpl.rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(5.4, 2.8), layout="constrained")
        axes = figure.subplots()
        axes.plot(steps, [step.loss for step in curve], color="#93c5fd", linewidth=0.8)
        axes.plot(steps, means, color="#2563eb", linewidth=1.4)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=150, metadata=metadata, facecolor="white")
