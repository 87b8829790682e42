import sys

import pytest

from llmwright.cli import main


@pytest.fixture
def llmwright(monkeypatch, capsys):
    """Run a command as the shell would. Gives (exit code, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["llmwright", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
