"""Settings of the machine: which variable decides what, and what a wrong one says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from llmwright.core import ConfigurationError, Settings, settings

NAMES = ("CACHE", "OFFLINE", "THREADS", "API_KEY", "PROGRESS", "NATIVE")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(f"LLMWRIGHT_{name}", raising=False)


def test_the_defaults():
    cache = Path(platformdirs.user_cache_dir("llmwright"))
    assert settings() == Settings(cache, False, 0, "", progress=True, native=True)


def test_the_environment_decides(monkeypatch, tmp_path):
    given = (str(tmp_path), "1", "3", "sk-very-secret", "0", "0")
    for name, value in zip(NAMES, given, strict=True):
        monkeypatch.setenv(f"LLMWRIGHT_{name}", value)
    now = settings()
    assert now == Settings(tmp_path, True, 3, "sk-very-secret", progress=False, native=False)
    assert "very-secret" not in repr(now)
    monkeypatch.setenv("LLMWRIGHT_CACHE", "~/models")
    assert settings().cache == Path.home() / "models"


@pytest.mark.parametrize(
    ("value", "on"),
    [("1", True), ("true", True), (" Yes ", True), ("0", False), ("FALSE", False), ("no", False)],
)
def test_a_switch_is_read_as_people_write_it(monkeypatch, value, on):
    for name in ("OFFLINE", "PROGRESS", "NATIVE"):
        monkeypatch.setenv(f"LLMWRIGHT_{name}", value)
    now = settings()
    assert (now.offline, now.progress, now.native) == (on, on, on)


def test_an_empty_variable_is_none(monkeypatch):
    plain = settings()
    for name in ("CACHE", "OFFLINE", "PROGRESS", "NATIVE"):
        monkeypatch.setenv(f"LLMWRIGHT_{name}", "")
    assert settings() == plain


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("OFFLINE", "Perhaps", "'perhaps' is not a switch; set it to 1 or 0."),
        ("PROGRESS", "2", "'2' is not a switch; set it to 1 or 0."),
        ("NATIVE", "on", "'on' is not a switch; set it to 1 or 0."),
        ("THREADS", "-1", "'-1' is not a number of threads; set it to a whole number, 0 for all."),
        ("THREADS", "²", "'²' is not a number of threads; set it to a whole number, 0 for all."),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch, name, value, sentence):
    monkeypatch.setenv(f"LLMWRIGHT_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        settings()
    assert str(caught.value) == f"LLMWRIGHT_{name}: {sentence}"


def test_importing_the_package_brings_nothing_heavy():
    heavy = "torch transformers lancedb numpy pydantic rich matplotlib starlette"
    code = (
        "import sys, llmwright, llmwright.cli\n"
        f"sys.exit(' '.join(set('{heavy}'.split()) & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
