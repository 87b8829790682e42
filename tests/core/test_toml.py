"""TOML files as typed objects: what is wrong, on which line, and the way out."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from llmwright.core import ConfigurationError, InputError, RecipeError, read_toml


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Search(Section):
    top: Annotated[int, Field(ge=1)] = 3
    mode: Literal["fast", "slow"] = "fast"
    targets: str | list[str] = "all"


class Deep(Section):
    search: Search = Search()


class Project(Section):
    name: str
    colour: str = "red"

    @field_validator("colour")
    @classmethod
    def _known(cls, colour: str) -> str:
        if colour != "red":
            raise ValueError("paint it red")
        return colour


class Thing(Section):
    project: Project
    search: Search = Search()
    deep: Deep = Deep()


GOOD = """\
# A thing.
[project]
name = "x"

[search]  # how
top = 4

[deep.search]
top = 5
"""


def write(tmp_path, text):
    path = tmp_path / "thing.toml"
    path.write_text(text)
    return path


def test_a_good_file_is_read(tmp_path):
    thing = read_toml(write(tmp_path, GOOD), Thing, RecipeError)
    assert (thing.project.name, thing.search.top, thing.deep.search.top) == ("x", 4, 5)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("top = 4", "topp = 4", ", line 6: unknown key 'search.topp'; did you mean 'top'."),
        ("top = 5", "mod = 5", ", line 9: unknown key 'deep.search.mod'; did you mean 'mode'."),
        ("top = 4", "zzz = 4",
         ", line 6: unknown key 'search.zzz'; valid here: mode, targets, top."),
        ("[search]", "[serch]", ", line 5: unknown key 'serch'; did you mean 'search'."),
        ("# A thing.", "zzz = 1",
         ", line 1: unknown key 'zzz'; valid here: deep, project, search."),
        ('name = "x"', "", ", line 2: 'project.name' is missing; add it to that section."),
        ('[project]\nname = "x"', "", ": the section [project] is missing; add it."),
        ("top = 4", "top = 0",
         ", line 6: 'search.top' is 0; input should be greater than or equal to 1."),
        ("top = 5", "top = 0",
         ", line 9: 'deep.search.top' is 0; input should be greater than or equal to 1."),
        ("top = 4", "mode = 'quick'",
         ", line 6: 'search.mode' is 'quick'; input should be 'fast' or 'slow'."),
        ("top = 4", f"top = '{'9' * 58}'",
         f", line 6: 'search.top' is '{'9' * 58}'; input should be a valid integer."),
        ("top = 4", f"top = '{'9' * 59}'",
         f", line 6: 'search.top' is '{'9' * 56}...; input should be a valid integer."),
        ('name = "x"', 'name = "x"\ncolour = "blue"',
         ", line 4: 'project.colour' is wrong: paint it red."),
        ("top = 4", "top = ", ": not valid TOML: invalid value (at line 6, column 7); "
         "mend that place."),
    ],
)  # fmt: skip
def test_what_is_wrong_where_and_the_way_out(tmp_path, old, new, sentence):
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    for kind in (RecipeError, ConfigurationError):
        with pytest.raises(kind) as caught:
            read_toml(path, Thing, kind)
        assert str(caught.value) == f"{path}{sentence}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[project]\nname='x'\n[ 'search' ]\n\"top\" = 0", 4),
        ("project.name = 'x'\nsearch.top = 0", 2),
        ("search = {top = 0}\n[project]\nname = 'x'", 1),
        ("[project]\nname = 'x'\n[deep]\nsearch.top = 0", 4),
        ("[project]\nname = 'x'\n[deep]\nsearch = {top = 0}", 4),
        ("[project]\nname = 'top'\n[deep]\n\n[search]\n  top=0", 6),
        ("[project]\nname = 'x'\n[search.zzz]\n[search]", 3),
        ("'a key' = 1\n[project]\nname = 'x'", 1),
    ],
)
def test_the_line_is_found_however_the_key_is_written(tmp_path, text, line):
    with pytest.raises(RecipeError, match=rf"thing\.toml, line {line}: "):
        read_toml(write(tmp_path, text), Thing, RecipeError)


def test_each_branch_of_a_union_is_told_with_the_key_itself(tmp_path):
    with pytest.raises(RecipeError) as caught:
        read_toml(write(tmp_path, GOOD.replace("top = 4", "targets = 3")), Thing, RecipeError)
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'thing.toml'}, line 6: 'search.targets' is 3; input should be a valid string.",
        f"{tmp_path / 'thing.toml'}, line 6: 'search.targets' is 3; input should be a valid list.",
    ]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_toml(tmp_path / "none.toml", Thing, RecipeError)
