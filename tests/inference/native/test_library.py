"""The kernels are built once, or not at all with a reason."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmwright.core import MissingDependencyError
from llmwright.inference.native import NativeRunner, library, native_available
from llmwright.modeling import random_decoder


@pytest.fixture
def unbuilt(monkeypatch, tmp_path):
    """Nothing loaded, and an empty cache."""
    monkeypatch.setattr(library, "_loaded", None)
    monkeypatch.setattr(library, "_why_not", None)
    monkeypatch.setenv("LLMWRIGHT_CACHE", str(tmp_path))
    return tmp_path / "native"


def compiler(path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_switched_off(monkeypatch):
    monkeypatch.setenv("LLMWRIGHT_NATIVE", "0")
    assert not native_available()
    assert "LLMWRIGHT_NATIVE" in native_available().reason
    from tiny_llama import TINY

    with pytest.raises(MissingDependencyError, match="switched off"):
        NativeRunner(random_decoder(TINY), 4)


def test_without_a_compiler(unbuilt, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert native_available().reason.startswith("there is no C compiler")
    assert not unbuilt.exists()


def test_a_compiler_that_fails(unbuilt, monkeypatch, tmp_path):
    broken = compiler(tmp_path / "cc", "echo 'x.c:1: error: nothing works' >&2; exit 1")
    monkeypatch.setenv("CC", broken)
    assert "error: nothing works" in native_available().reason
    assert not list(unbuilt.glob("*"))


def test_a_library_that_cannot_be_loaded(unbuilt, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", compiler(tmp_path / "cc", "exit 0"))  # it leaves an empty file
    assert not native_available()


def test_compiled_once_by_many(unbuilt, monkeypatch, tmp_path):
    """Processes that start together, then one more: one file, and the last compiles nothing."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    count = tmp_path / "count"
    # The whole of the sources would take its time: what is tested is who builds and when.
    real = compiler(tmp_path / "counting-cc", f'echo x >> {count}; exec cc -O0 "$@" -O0')
    monkeypatch.setenv("CC", real)
    code = "from llmwright.inference.native.library import _build; print(_build())"

    def build(_: int) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    with ThreadPoolExecutor(2) as pool:
        paths = set(pool.map(build, range(2)))
    built = len(count.read_text().split())
    paths.add(build(0))
    assert len(paths) == 1 and len(list(unbuilt.iterdir())) == 1
    assert built in (1, 2) and len(count.read_text().split()) == built
