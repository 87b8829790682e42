"""Sources that are files here, names that are wrong, and fingerprints."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from llmwright.core import LLMwrightError, ModelSourceError, file_hash
from llmwright.modeling import resolve


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "no such file or folder"),
        ("no/such/folder", "no such file or folder"),
        ("openai:gpt-x", "remote service"),
        ("http://localhost:1/v1#m", "remote service"),
        ("ftp:thing", "no kind of source"),
        ("hf:onlyname", "not the name of a repository"),
        ("hf:a/b/c", "not the name of a repository"),
        ("pypi:", "not the name of a package"),
        ("pypi:a/../../b", "not the name of a package"),
        ("pypi:name==../../x", "not the name of a package"),
        ("pypi:--index-url=x", "not the name of a package"),
    ],
)
def test_wrong_sources_give_one_sentence_with_the_way_out(source: str, says: str) -> None:
    with pytest.raises(ModelSourceError, match=says) as caught:
        resolve(source)
    assert caught.value.fix
    assert "\n" not in str(caught.value)


def test_a_gguf_file_and_the_folder_that_holds_only_it(tmp_path: Path) -> None:
    file = tmp_path / "m" / "model.gguf"
    file.parent.mkdir()
    file.write_bytes(b"GGUF-content")
    found = resolve(file)
    assert (found.path, found.kind) == (file, "gguf")
    assert found.fingerprint == file_hash(file)
    assert resolve(str(file.parent)).path == file


def test_a_folder_is_known_by_its_content_not_by_its_place(tmp_path: Path) -> None:
    one = make_model(tmp_path / "one")
    (one / "1_Pooling").mkdir()
    (one / "1_Pooling" / "config.json").write_text("{}")
    two = tmp_path / "two"
    shutil.copytree(one, two)
    (two / "README.md").write_text("not part of the model")
    assert resolve(one).kind == "safetensors"
    assert resolve(one).fingerprint == resolve(two).fingerprint
    (two / "1_Pooling" / "config.json").write_text('{"pooling": "cls"}')
    assert resolve(one).fingerprint != resolve(two).fingerprint


def test_the_remembered_fingerprint_follows_the_file(tmp_path: Path, own_cache: Path) -> None:
    model = make_model(tmp_path / "m")
    weights = model / "model.safetensors"
    first = resolve(model).fingerprint
    memo = next((own_cache / "fingerprints").glob("*.json"))
    # The memo is what is used: a forged one is believed while size and time stand.
    forged = json.loads(memo.read_text())
    forged["model.safetensors"][2] = "0" * 64
    memo.write_text(json.dumps(forged))
    assert resolve(model).fingerprint != first
    # Same size, another time: hashed again.
    stat = weights.stat()
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    changed = resolve(model).fingerprint
    assert changed != first
    memo.write_text("{broken")
    assert resolve(model).fingerprint == changed


def test_a_cache_that_cannot_be_written_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path / "m")
    expected = resolve(model).fingerprint
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMWRIGHT_CACHE", str(tmp_path / "file" / "cache"))
    assert resolve(model).fingerprint == expected


def test_folders_that_are_no_model_say_what_they_lack(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelSourceError, match=r"no \*\.safetensors"):
        resolve(empty)
    (empty / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelSourceError, match=r"no config\.json"):
        resolve(empty)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelSourceError, match="this is an adapter"):
        resolve(adapter)
    pickled = tmp_path / "pytorch_model.bin"
    pickled.write_bytes(b"")
    with pytest.raises(ModelSourceError, match=r"a \.bin file is no model"):
        resolve(pickled)
    many = tmp_path / "many"
    many.mkdir()
    for name in ("a.gguf", "b.gguf"):
        (many / name).write_bytes(b"GGUF")
    with pytest.raises(ModelSourceError, match=r"several models \(a\.gguf, b\.gguf\)"):
        resolve(many)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    model = make_model(tmp_path / "m")
    index = {"weight_map": {"x": "model.safetensors", "y": "model-00002-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelSourceError, match="model-00002-of-00002"):
        resolve(model)
    for broken in ([], {"weight_map": ["x"]}, {"weight_map": {"x": 3}}, {}):
        (model / "model.safetensors.index.json").write_text(json.dumps(broken))
        with pytest.raises(ModelSourceError, match="does not say which file holds which weight"):
            resolve(model)


def test_the_hub_offline_says_what_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("LLMWRIGHT_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelSourceError, match="hf download owner/name"):
        resolve("hf:owner/name")


def test_the_hub_s_own_cache_is_used_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("LLMWRIGHT_OFFLINE", "1")
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = hub / "models--owner--name"
    make_model(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    found = resolve("hf:owner/name")
    assert found.path == repository / "snapshots" / commit
    assert found.kind == "safetensors"
    # A part of a model is not the model.
    (found.path / "config.json").unlink()
    with pytest.raises(ModelSourceError, match="LLMWRIGHT_OFFLINE"):
        resolve("hf:owner/name")


def test_an_unreachable_hub_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: refused at once
    with pytest.raises(
        LLMwrightError, match="cannot be fetched from https://huggingface"
    ) as caught:
        resolve("hf:owner/name")
    assert "\n" not in str(caught.value)
