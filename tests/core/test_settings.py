import subprocess
import sys

import pytest

from llmwright.core import ConfigurationError, progress, settings


def test_the_environment_decides(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setenv("LLMWRIGHT_OFFLINE", "1")
    monkeypatch.setenv("LLMWRIGHT_THREADS", "3")
    monkeypatch.setenv("LLMWRIGHT_API_KEY", "sk-very-secret")
    now = settings()
    assert (now.cache, now.offline, now.threads) == (tmp_path, True, 3)
    assert "very-secret" not in repr(now)


@pytest.mark.parametrize(
    ("name", "value"), [("LLMWRIGHT_OFFLINE", "perhaps"), ("LLMWRIGHT_THREADS", "-1")]
)
def test_a_wrong_value_names_its_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        settings()


def test_progress_passes_the_work_through(monkeypatch, capsys):
    monkeypatch.setenv("LLMWRIGHT_PROGRESS", "1")
    with progress("work", total=3, unit="things") as advance:
        for _ in range(3):
            advance(1)
    with pytest.raises(ZeroDivisionError), progress("work"):
        _ = 1 / 0


def test_importing_the_package_brings_nothing_heavy():
    heavy = "torch transformers lancedb numpy pydantic rich matplotlib starlette"
    code = (
        "import sys, llmwright, llmwright.cli\n"
        f"sys.exit(' '.join(set('{heavy}'.split()) & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
