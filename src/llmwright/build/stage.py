"""The stage contract: what a build is made of, and why nothing finished is done twice.

A stage reads the outputs of earlier stages and files outside the build, and writes one folder.
Its **key** is the hash of all that decides its output: name, version of this package,
parameters, hashes of the outside files, digests of the outputs it reads. Its **digest** is the
hash of what came out. A stage whose key stands on disk is reused; since keys are made of
digests and not of keys, a change that alters nothing downstream reruns nothing downstream (early
cut-off, as in Mokhov, Mitchell & Peyton Jones, "Build Systems à la Carte", 2018).

On disk, below the workspace::

    NAME-KEY/stage.json     what was read, the digest, the time it took
    NAME-KEY/output/        the result
    NAME-KEY.partial/       work in progress; renamed when whole

A killed stage leaves its partial folder. A resumable stage finds it again and goes on from it;
any other begins with an empty one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmwright import __version__
from llmwright.core import (
    InputError,
    content_hash,
    exclusive,
    read_json,
    sweep,
    tree_hash,
    write_json,
)

_KEPT = 2  # results kept per stage name, so that going back one change is free


@dataclass(frozen=True, slots=True)
class Stage:
    """One step. ``run(output, inputs)`` writes into the folder ``output`` and reads the output
    folders of the stages named in ``reads``."""

    name: str
    run: Callable[[Path, Mapping[str, Path]], None]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    resumable: bool = False
    digest: Callable[[Path], str] = tree_hash


@dataclass(frozen=True, slots=True)
class StageResult:
    """Where a stage's output stands, what it hashes to, and the seconds its run took."""

    name: str
    digest: str
    output: Path
    seconds: float
    reused: bool


Observer = Callable[[Stage, StageResult | None], None]


def run_stages(
    stages: Sequence[Stage], workspace: Path, observe: Observer = lambda _stage, _result: None
) -> dict[str, StageResult]:
    """Carry the stages out in order, reusing what stands. Returns the results by name.

    ``observe`` is called with ``None`` before a stage runs and with its result after. Raises
    ``CapacityError`` when another build works in the same place.
    """
    results: dict[str, StageResult] = {}
    with exclusive(
        workspace / "lock",
        busy="another build is at work in this folder",
        denied="give yourself the right to write, or name another place with --workspace",
    ):
        for stage in stages:
            results[stage.name] = _run(stage, workspace, results, observe)
        _prune(workspace, results.values())
    return results


def _run(
    stage: Stage, workspace: Path, done: Mapping[str, StageResult], observe: Observer
) -> StageResult:
    identity = {
        "name": stage.name,
        "version": __version__,
        "parameters": dict(stage.parameters),
        "sources": dict(stage.sources),
        "inputs": {name: done[name].digest for name in stage.reads},
    }
    folder = workspace / f"{stage.name}-{content_hash(identity)[:16]}"
    if (standing := _standing(stage, folder)) is not None:
        observe(stage, standing)
        return standing
    observe(stage, None)

    partial = folder.with_name(folder.name + ".partial")
    output = partial / "output"
    if not stage.resumable:
        shutil.rmtree(partial, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    sweep(output)
    began = time.monotonic()
    stage.run(output, {name: done[name].output for name in stage.reads})
    seconds = time.monotonic() - began

    digest = stage.digest(output)
    record = {
        **identity,
        "digest": digest,
        "files": tree_hash(output),
        "seconds": round(seconds, 3),
    }
    write_json(partial / "stage.json", record)
    shutil.rmtree(folder, ignore_errors=True)  # a result found damaged gives way
    partial.replace(folder)
    result = StageResult(stage.name, digest, folder / "output", seconds, reused=False)
    observe(stage, result)
    return result


def _standing(stage: Stage, folder: Path) -> StageResult | None:
    """The finished result at ``folder``, or None where there is none or its files changed."""
    record_path = folder / "stage.json"
    if not record_path.is_file():
        return None
    try:
        record = read_json(record_path)
    except InputError:  # a damaged record is no result: the stage runs again
        return None
    if record.get("files") != tree_hash(folder / "output"):
        return None
    return StageResult(
        stage.name, record["digest"], folder / "output", record["seconds"], reused=True
    )


def _prune(workspace: Path, current: Iterable[StageResult]) -> None:
    """Remove results that neither this build nor the one before it used."""
    for result in current:
        folder = result.output.parent
        folder.touch()
        others = [
            path
            for path in workspace.glob(f"{result.name}-*")
            if path != folder and path.name.rpartition("-")[0] == result.name
        ]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[_KEPT - 1 :]:
            shutil.rmtree(path, ignore_errors=True)
