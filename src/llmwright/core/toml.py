"""A TOML file as a typed object: every wrong key is named with its line and the way out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmwright.core.errors import LLMwrightError
from llmwright.core.files import read_text

if TYPE_CHECKING:
    from pydantic import BaseModel

Kind = TypeVar("Kind", bound="BaseModel")


def read_toml(path: Path, kind: type[Kind], error: type[LLMwrightError]) -> Kind:
    """Read and check a file of the pydantic model ``kind``.

    Raises ``error`` that names every unknown, wrong or missing key, and ``InputError`` where the
    file cannot be read.
    """
    import tomllib  # here, as pydantic: most commands read no TOML

    from pydantic import ValidationError

    text = read_text(path)
    try:
        return kind.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as broken:
        said = str(broken)
        raise error(
            f"not valid TOML: {said[0].lower()}{said[1:]}", where=str(path), fix="mend that place"
        ) from broken
    except ValidationError as wrong:
        problems = [error(**_explain(problem, kind, path, text)) for problem in wrong.errors()]
    first, *rest = problems
    if rest:  # every problem at once, each a sentence on its own line
        raise error("\n".join(map(str, problems)).removesuffix("."))
    raise first


def _explain(problem: Any, kind: type[BaseModel], path: Path, text: str) -> dict[str, str]:
    """One of pydantic's findings as the parts of an error."""
    names = [part for part in problem["loc"] if isinstance(part, str)]
    keys = [name for name in names if name not in ("str", "list[str]")]  # branches of a union
    dotted = ".".join(keys)
    where = f"{path}, line {_line_of(text, keys)}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        import difflib

        valid = _valid_keys(kind, keys[:-1])
        near = difflib.get_close_matches(keys[-1], valid, n=1, cutoff=0.5)
        fix = f"did you mean {near[0]!r}" if near else f"valid here: {', '.join(valid)}"
        return {"what": f"unknown key {dotted!r}", "where": where, "fix": fix}
    if problem["type"] == "missing":
        if len(keys) == 1:
            what = f"the section [{keys[0]}] is missing"
            return {"what": what, "where": str(path), "fix": "add it"}
        return {"what": f"{dotted!r} is missing", "where": where, "fix": "add it to that section"}
    if problem["type"] == "value_error":  # a validator of ours, in whole sentences
        return {"what": f"{dotted!r} is wrong: {message}", "where": where}
    shown = repr(problem["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    fix = message[0].lower() + message[1:]
    return {"what": f"{dotted!r} is {shown}", "where": where, "fix": fix}


def _valid_keys(model: Any, keys: Sequence[str]) -> list[str]:
    for key in keys:
        model = model.model_fields[key].annotation
    return sorted(model.model_fields)


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
