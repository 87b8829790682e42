"""The report's pictures: what is drawn where, and that they fit any page."""

import re

import pytest
from matplotlib.figure import Figure

from llmwright.build import figures
from llmwright.core import Score


@pytest.fixture
def drawn(monkeypatch):
    """Draws on axes that can be looked at: ``drawn(figures.loss_curve, ...)``."""

    def draw(picture, *args):
        axes = Figure().add_subplot()
        monkeypatch.setattr(figures, "_svg", lambda label, w, h, paint: paint(axes))
        picture(*args)
        return axes

    return draw


def test_the_loss_and_its_running_mean(drawn):
    steps = list(range(10, 40))
    losses = [4.0, 2.0, *[1.0] * 27, 9.0]
    axes = drawn(figures.loss_curve, steps, losses)
    raw, mean = axes.lines
    assert list(raw.get_xdata()) == list(mean.get_xdata()) == steps
    assert list(raw.get_ydata()) == losses
    # Over three of thirty steps; the first over those there are.
    assert list(mean.get_ydata())[:5] == pytest.approx([4, 3, 7 / 3, 4 / 3, 1])
    assert mean.get_ydata()[-1] == pytest.approx(11 / 3)
    assert axes.get_ylim()[0] == 0
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss (nats a token)")
    assert list(drawn(figures.loss_curve, [1, 2], [3.0, 1.0]).lines[1].get_ydata()) == [3, 1]


def test_scores_stand_from_the_top_down_with_their_intervals(drawn):
    scores = [
        Score("a", 0.2, 0.1, 0.4),
        Score("b", None),
        Score("c", 1.0),
        Score("d", 0.0, 0.0, 0.1),
    ]
    axes = drawn(figures.intervals, scores)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["d", "c", "a"]
    assert [tuple(map(list, line.get_data())) for line in axes.lines] == [
        ([0.0, 0.1], [0, 0]), ([0.0], [0]), ([1.0], [1]), ([0.1, 0.4], [2, 2]), ([0.2], [2]),
    ]  # fmt: skip
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    # No mark is cut, and little room is lost.
    assert -0.1 < left < 0 and 1 < right < 1.1 and -1 < bottom < 0 and 2 < top < 3
    assert any(line.get_visible() for line in axes.get_xgridlines())
    half = drawn(figures.intervals, [Score("a", 0.2, 0.1), Score("b", 0.2, None, 0.3)])
    assert len(half.lines) == 2  # an interval has two ends


def test_times_stand_beside_their_bars(drawn):
    axes = drawn(figures.stage_times, ["index", "answers"], [1.25, 3.0])
    assert [(bar.get_y() + bar.get_height() / 2, bar.get_width()) for bar in axes.patches] == [
        (1, 1.25), (0, 3.0),
    ]  # fmt: skip
    assert [(t.get_position(), t.get_text(), t.get_va()) for t in axes.texts] == [
        ((1.25, 1), " 1.2 s", "center"), ((3.0, 0), " 3.0 s", "center"),
    ]  # fmt: skip
    assert dict(zip(axes.get_yticks(), [t.get_text() for t in axes.get_yticklabels()], strict=True)) == {
        1: "index", 0: "answers",
    }  # fmt: skip
    assert axes.get_xlim()[0] == 0 and 3.3 < axes.get_xlim()[1] < 4
    assert axes.get_xlabel() == "seconds"
    assert drawn(figures.stage_times, ["index"], [0.0]).get_xlim()[1] > 0


def test_a_picture_fits_a_light_and_a_dark_page():
    pictures = [
        figures.loss_curve([1, 2], [3.0, 1.0]),
        figures.intervals([Score("recall@5", 0.5, 0.25, 0.75)]),
        figures.stage_times(["index"], [2.0]),
    ]
    labels = ["Training loss by step", "Scores with 95% intervals", "Seconds by stage"]
    for text, label in zip(pictures, labels, strict=True):
        assert text.startswith(f'<svg role="img" aria-label="{label}" ')
        assert text.count("aria-label") == 1
        assert "currentColor" in text and "#010203" not in text
        # Text, lines and marks take the page's colour, apart from the accent.
        assert set(re.findall(r"(?:fill|stroke): (#\w+)", text)) <= {"#3b7dd8"}
        assert "<text" in text  # searchable
        assert "<dc:date>" not in text  # the same picture, the same bytes
        width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text).groups()
        assert width == "460.8" and float(width) > float(height)  # all of one width
    assert pictures[0] == figures.loss_curve([1, 2], [3.0, 1.0])

    def height(rows):
        text = figures.stage_times(["x"] * rows, [1.0] * rows)
        return float(re.search(r'height="([\d.]+)pt"', text)[1])

    assert height(2) < height(6)  # room for each row

    scores = [Score(str(n), 0.5) for n in range(6)]
    tall, flat = figures.intervals(scores), figures.intervals(scores[:2])
    sizes = [float(re.search(r'height="([\d.]+)pt"', text)[1]) for text in (flat, tall)]
    assert sizes[0] < sizes[1]
