"""The release: a folder that holds all an assistant is, and opens as a `ChatModel`.

::

    manifest.json    what it is made of, its scores and gates, and the hash of all that
    recipe.toml      the recipe as it stood
    behaviour.json   prompt, retrieval mode, guards
    index/           the passages
    adapter/         PEFT's format, where the recipe tunes
    evaluation/      scores and one record per question
    report.html      for people

Two kinds of hash stand in the manifest. ``hash`` covers content: the same recipe, documents and
seed give the same hash on the same machine, whatever was killed or reused on the way. ``files``
covers bytes on disk, by which opening a release notices a file that was changed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmwright.build.assistant import Assistant, Models, is_path
from llmwright.build.gates import GateResult
from llmwright.build.pipeline import read_scores
from llmwright.build.recipe import Behaviour, Recipe
from llmwright.build.stage import StageResult
from llmwright.core import (
    InputError,
    ModelSourceError,
    Score,
    atomic_folder,
    content_hash,
    file_hash,
    read_json,
    read_text,
    write_json,
)

FORMAT = 1
_MEASURED = ("retrieval", "perplexity", "answers")


@dataclass(frozen=True, slots=True)
class Built:
    """A build that ended: what went in, what was measured, and the folder of its release."""

    folder: Path
    recipe: Recipe
    models: Models
    stages: Mapping[str, StageResult]
    scores: Mapping[str, Score]
    gates: Sequence[GateResult]

    @property
    def passed(self) -> bool:
        return all(result.passed for result in self.gates)

    @property
    def hash(self) -> str:
        return content_hash(self.content())

    def content(self) -> dict[str, Any]:
        """What the release is, apart from the place and the time."""
        return {
            "format": FORMAT,
            "name": self.recipe.project.name,
            "description": self.recipe.project.description,
            "model": self.models.chat_fingerprint,
            "embedder": self.models.embedder_fingerprint,
            "reranker": self.models.reranker_fingerprint,
            "behaviour": content_hash(self.recipe.behaviour.model_dump(mode="json")),
            "stages": {name: stage.digest for name, stage in self.stages.items()},
            "scores": [asdict(score) for score in self.scores.values()],
            "gates": [
                {"gate": str(result.gate), "value": result.value, "passed": result.passed}
                for result in self.gates
            ],
        }

    def summary(self) -> dict[str, Any]:
        """For programs."""
        content = self.content()
        return {
            "release": str(self.folder),
            "hash": self.hash,
            "passed": self.passed,
            "scores": content["scores"],
            "gates": content["gates"],
            "stages": [
                {
                    "name": stage.name,
                    "digest": stage.digest,
                    "seconds": stage.seconds,
                    "reused": stage.reused,
                }
                for stage in self.stages.values()
            ],
        }


def measured(stages: Mapping[str, StageResult]) -> dict[str, Score]:
    """All scores of a build by name."""
    return {
        score.name: score
        for name in _MEASURED
        if name in stages
        for score in read_scores(stages[name].output)
    }


def write_release(built: Built, report: str) -> None:
    """Put the stages' outputs together at ``built.folder``, whole or not at all."""
    stages, models = built.stages, built.models
    with atomic_folder(built.folder) as new:
        shutil.copytree(stages["index"].output / "index", new / "index")
        if "adapter" in stages:
            shutil.copytree(stages["adapter"].output / "adapter", new / "adapter")
        for name in _MEASURED:
            if name in stages:
                shutil.copytree(stages[name].output, new / "evaluation" / name)
        shutil.copyfile(built.recipe.path, new / "recipe.toml")
        write_json(new / "behaviour.json", built.recipe.behaviour.model_dump(mode="json"))
        (new / "report.html").write_text(report, encoding="utf-8")
        manifest = {
            **built.content(),
            "hash": built.hash,
            "sources": {
                name: _portable(source, built.folder)
                for name, source in (
                    ("model", models.chat),
                    ("embedder", models.embedder_source),
                    ("reranker", models.reranker),
                )
                if source
            },
            "files": {
                path.relative_to(new).as_posix(): file_hash(path)
                for path in sorted(new.rglob("*"))
                if path.is_file()
            },
        }
        write_json(new / "manifest.json", manifest)


def _portable(source: str, folder: Path) -> str:
    """A source as the release keeps it: local paths relative to the release, so that both can be
    moved together and no machine's path is written down."""
    return "./" + Path(os.path.relpath(source, folder)).as_posix() if is_path(source) else source


def _from_portable(source: str, folder: Path) -> str:
    return os.path.normpath(folder / source) if is_path(source) else source


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a release's manifest and check its files against it.

    Raises ``InputError`` where this is no release, one of a newer format, or a damaged one.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise InputError(
            "this is no release: it holds no manifest.json",
            where=str(folder),
            fix="name the folder that `llmwright build` wrote",
        )
    manifest: dict[str, Any] = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise InputError(
            f"the release has format {found!r}, this version reads {FORMAT}",
            where=str(path),
            fix="build it again with this version",
        )
    for name, expected in manifest["files"].items():
        file = folder / name
        if not file.is_file() or file_hash(file) != expected:
            state = "was changed since the build" if file.is_file() else "is missing"
            raise InputError(
                f"the release's file {name!r} {state}",
                where=str(folder),
                fix="build it again; finished stages are not repeated",
            )
    return manifest


def open_release(folder: Path) -> Assistant:
    """Open a release as a `ChatModel`. Raises ``InputError`` where it is damaged and
    ``ModelSourceError`` where the base model is not the one it was built on."""
    manifest = read_manifest(folder)
    behaviour = Behaviour.model_validate_json(read_text(folder / "behaviour.json"))
    sources = {name: _from_portable(text, folder) for name, text in manifest["sources"].items()}
    models = Models.find(
        sources["model"], sources["embedder"], behaviour.dtype, sources.get("reranker", "")
    )
    for name, found, expected in (
        ("model", models.chat_fingerprint, manifest["model"]),
        ("embedder", models.embedder_fingerprint, manifest["embedder"]),
        ("reranker", models.reranker_fingerprint, manifest.get("reranker", "")),
    ):
        if found != expected:
            raise ModelSourceError(
                f"the {name} is not the one this release was built on",
                where=sources[name],
                fix="put the old one back, or build the release again",
            )
    adapter = folder / "adapter"
    return Assistant.assemble(
        manifest["name"],
        models,
        folder / "index",
        adapter if adapter.is_dir() else None,
        behaviour,
        manifest["hash"],
    )
