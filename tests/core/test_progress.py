"""Progress: plain lines where output goes to a file, a bar on a terminal, nothing inside."""

from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace

import pytest

from llmwright.core import progress

MODULE = sys.modules["llmwright.core.progress"]  # the room's name for it is the function


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    monkeypatch.setenv("LLMWRIGHT_PROGRESS", "1")


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = [100.0]
    monkeypatch.setattr(MODULE, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        """What was shown, without colours."""
        return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", self.getvalue())


class Timer:
    """Stands in for threading.Timer; its time comes at once, or never."""

    fires = True
    seconds: float | None = None

    def __init__(self, seconds, function):
        type(self).seconds = seconds
        self.function = function
        self.daemon = False
        self.ended: list[str] = []

    def start(self):
        assert self.daemon  # a program that ends does not wait for its bar
        if self.fires:
            self.function()

    def cancel(self):
        self.ended.append("cancel")

    def join(self):
        self.ended.append("join")


@pytest.fixture
def terminal(monkeypatch):
    """A terminal put in place of standard error, after pytest has put its own there."""

    def begin() -> Terminal:
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr(MODULE, "threading", SimpleNamespace(Timer=Timer))
        return screen

    return begin


def test_lines_come_every_two_seconds_and_tenth(clock, capsys):
    with progress("reading", total=20, unit="files") as advance:
        advance(1)  # at once: nothing to tell
        clock[0] += 1.9
        advance(1)
        clock[0] += 0.1
        advance(2)  # two seconds, a tenth and more
        clock[0] += 2
        advance(1)  # 5 of 20: still the second tenth of four
        advance(1)
        clock[0] += 2
        advance(14, "the last")
    assert capsys.readouterr().err.splitlines() == [
        "  reading: 4/20 files (2 s)",
        "  reading: 6/20 files (4 s)",
        "  reading: 20/20 files (6 s), the last",
    ]


def test_a_tenth_is_told_once(clock, capsys):
    with progress("reading", total=100, unit="files") as advance:
        for count in (9, 1, 9, 1):
            clock[0] += 2
            advance(count)
    assert capsys.readouterr().err.splitlines() == [
        "  reading: 10/100 files (4 s)",
        "  reading: 20/100 files (8 s)",
    ]


def test_lines_without_a_total_come_by_time_alone(clock, capsys):
    with progress("reading", unit="files") as advance:
        for _ in range(2):
            clock[0] += 2
            advance(1)
    assert capsys.readouterr().err.splitlines() == [
        "  reading: 1 files (2 s)",
        "  reading: 2 files (4 s)",
    ]


def test_a_bar_says_what_how_much_and_the_note(terminal):
    screen = terminal()
    with progress("embedding", total=3, unit="chunks") as advance:
        advance(1)
        advance(2, "almost")
    text = screen.text()
    assert Timer.seconds == 0.5
    assert "embedding almost" in text
    assert "3/3" in text
    assert "chunks" in text


def test_a_bar_stands_before_the_first_step_and_without_a_note(terminal):
    for steps in (0, 3):
        screen = terminal()
        with progress("embedding", total=3, unit="chunks") as advance:
            if steps:
                advance(steps)
        assert re.search(rf" embedding ━{{30}} {steps}/3 chunks 0:00:0\d [-\d]:", screen.text())


def test_what_is_done_at_once_shows_no_bar(terminal, monkeypatch):
    monkeypatch.setattr(Timer, "fires", False)
    screen = terminal()
    with progress("embedding", total=3, unit="chunks") as advance:
        advance(3)
    assert "embedding" not in screen.text()


@pytest.mark.parametrize("on_terminal", [True, False])
def test_work_inside_work_and_work_that_fails(on_terminal, terminal, clock, capsys):
    screen = terminal() if on_terminal else None
    with pytest.raises(ZeroDivisionError), progress("outer") as outer:
        with progress("inner", total=1) as inner:
            clock[0] += 5
            inner(1, "unseen")
        outer(1)
        _ = 1 / 0
    with progress("afterwards") as after:  # a failure does not silence what comes after it
        clock[0] += 5
        after(1)
    text = screen.text() if screen else capsys.readouterr().err
    assert "inner" not in text
    assert "outer" in text
    assert "afterwards" in text


def test_progress_can_be_switched_off(monkeypatch, clock, capsys):
    monkeypatch.setenv("LLMWRIGHT_PROGRESS", "0")
    with progress("reading") as advance:
        clock[0] += 5
        advance(1)
        advance(1, note="more")
    assert capsys.readouterr().err == ""
