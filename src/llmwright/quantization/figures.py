"""A picture of a ``Comparison``: what quality costs in size, and how far each model has moved."""

from __future__ import annotations

from pathlib import Path

from llmwright.core import PICTURE_STYLE
from llmwright.quantization.compare import Comparison

_PLAIN, _CHOSEN, _FULL = "#2563eb", "#d97706", "#6b7280"


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Write ``path`` (.svg or .png): perplexity against size, and divergence from the full model;
    what is recommended stands out."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    results = comparison.results
    colors = [_CHOSEN if r == comparison.recommended else _PLAIN for r in results]
    with mpl.rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        quality, distance = figure.subplots(1, 2)
        full = comparison.full
        for result, color in [*zip(results, colors, strict=True), (full, _FULL)]:
            size = result.bytes / 1e6
            quality.scatter(size, result.perplexity, color=color, s=28)
            quality.annotate(
                result.name, (size, result.perplexity), (5, 4), textcoords="offset points"
            )
        limit = full.perplexity * (1 + comparison.within)
        quality.axhline(limit, color=_FULL, linewidth=0.8, linestyle=":")
        quality.set_xlabel("megabytes")
        quality.set_ylabel("perplexity")
        quality.set_xlim(left=0)
        quality.margins(x=0.15, y=0.15)
        names = [result.name for result in results]
        distance.barh(names, [result.kl for result in results], color=colors)
        distance.invert_yaxis()
        distance.set_xlabel("KL(full || quantized), nats a token")
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=150, metadata=metadata, facecolor="white")
