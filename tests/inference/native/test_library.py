"""The kernels are built once, or not at all with a reason."""

from __future__ import annotations

import copy
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from native_models import decoder_of
from native_steps import Text, read

from llmwright.core import MissingDependencyError, compiling
from llmwright.inference.native import NativeRunner, native_available
from llmwright.inference.native.library import KERNELS
from llmwright.modeling import random_decoder


@pytest.fixture
def unbuilt(monkeypatch, tmp_path):
    """Nothing loaded, and an empty cache."""
    monkeypatch.setattr(KERNELS, "_loaded", None)
    monkeypatch.setattr(KERNELS, "_why_not", None)
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


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names an x86 processor")
def test_an_older_processor_computes_the_same(unbuilt, monkeypatch, tmp_path):
    """Narrower vectors, and no instructions for products of bytes and of bfloat16."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    older = compiler(tmp_path / "cc", 'exec cc "$@" -march=x86-64-v3')
    monkeypatch.setenv("CC", older)
    ids = list(range(40))
    for form, most in (("float32", 1e-5), ("bfloat16", 0.02), ("int8", 0.05), ("int4", 0.05)):
        decoder = decoder_of(form)
        runner = NativeRunner(decoder, 4)
        logits = read(runner, Text(ids, [3, 0, 1]), 9)
        with torch.inference_mode():
            expected = copy.deepcopy(decoder).float()(torch.tensor([ids]))[0]
        assert (logits - expected).square().mean().sqrt() < most * expected.std()
        assert torch.equal(logits, read(runner, Text(ids, [3, 0, 1]), 40))
    assert KERNELS.load().lw_lanes() == 8


def test_compiled_once_by_many(unbuilt, monkeypatch, tmp_path):
    """Processes that start together, then one more: one file, and the last compiles nothing."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    count = tmp_path / "count"
    # The whole of the sources would take its time: what is tested is who builds and when.
    real = compiler(tmp_path / "counting-cc", f'echo x >> {count}; exec cc -O0 "$@" -O0')
    monkeypatch.setenv("CC", real)
    code = "from llmwright.inference.native.library import KERNELS; print(KERNELS.build())"

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


@pytest.fixture
def copying(unbuilt, monkeypatch, tmp_path):
    """A compiler that notes what it is told and gives the kernels that are built already."""
    with pytest.MonkeyPatch.context() as before:
        before.delenv("LLMWRIGHT_CACHE")
        built = KERNELS.build()
    notes = tmp_path / "notes"
    body = f'echo "$@" >> {notes}; while [ "$1" != -o ]; do shift; done; cp {built} "$2"'
    monkeypatch.setenv("CC", compiler(tmp_path / "cc", body))
    return notes


def test_built_once_for_one_compiler_and_one_processor(unbuilt, copying, monkeypatch):
    ids = list(range(40))
    assert native_available() and native_available().reason == ""
    logits = read(NativeRunner(decoder_of("int8"), 4), Text(ids, [3, 0, 1]), 9)
    assert logits.isfinite().all()
    (first,) = unbuilt.iterdir()
    assert first.name.startswith("forward-") and first.suffix == ".so"
    (line,) = copying.read_text().splitlines()
    for word in ("-O2", "-march=native", "-shared", "-fPIC", "forward.c", "-lpthread", "-lm"):
        assert word in line
    assert KERNELS.build() == first  # nothing is compiled again
    assert len(copying.read_text().splitlines()) == 1
    monkeypatch.setattr(compiling, "_processor", lambda: "another")
    assert KERNELS.build() != first
    monkeypatch.setenv("CC", f"{os.environ['CC']} -m64")  # a compiler with a word of its own
    assert KERNELS.build() != first
    first_words = [line.split()[0] for line in copying.read_text().splitlines()]
    assert first_words == ["-O2", "-O2", "-m64"]


def test_a_file_cut_short_is_built_anew_the_next_time(unbuilt, copying, monkeypatch):
    target = KERNELS.build()
    target.write_bytes(target.read_bytes()[:100])
    assert not native_available()
    assert not target.exists()
    assert not native_available()  # in this process the reason stands
    monkeypatch.setattr(KERNELS, "_why_not", None)
    assert native_available() and target.exists()


def test_the_processor_is_what_the_system_says_of_it_once(monkeypatch, tmp_path):
    info = "processor : 0\nmodel name : X 1\nflags : b a\nMHz : 7\n\nprocessor : 1\nmodel name : X 1\nflags : b a\n"
    (tmp_path / "cpuinfo").write_text(info)
    monkeypatch.setattr(compiling, "Path", lambda path: tmp_path / path.removeprefix("/proc/"))
    assert compiling._processor() == "flags : b a\nmodel name : X 1"
    (tmp_path / "cpuinfo").unlink()
    assert compiling._processor() == platform.processor()
