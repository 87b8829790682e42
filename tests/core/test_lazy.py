"""Names fetched when first used: what a room shows type checkers is what it gives at run time."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import llmwright
import llmwright.core.lazy
from llmwright.core import lazy_exports

ROOT = Path(llmwright.__file__).parent
ROOMS = sorted(
    path.parent.name for path in ROOT.glob("*/__init__.py") if "lazy_exports(" in path.read_text()
)


def test_some_rooms_are_lazy():
    assert {"answering", "data", "embeddings", "inference", "modeling", "providers"} < {*ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_what_type_checkers_see_is_what_is_fetched(room):
    package = f"llmwright.{room}"
    seen, always = {}, set()
    for node in ast.parse((ROOT / room / "__init__.py").read_text()).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name):
            seen |= {name.name: part.module for part in node.body for name in part.names}
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{package}."):
            always |= {name.name for name in node.names}
    module = import_module(package)
    assert {name: f"{package}.{home}" for name, home in module._HOMES.items()} == seen
    assert {*module.__all__} == {*seen} | always
    assert all(find_spec(home) for home in seen.values())


@pytest.mark.parametrize("room", ROOMS)
def test_a_name_nobody_has(room):
    with pytest.raises(AttributeError, match=rf"module 'llmwright.{room}' has no attribute 'nope'"):
        _ = import_module(f"llmwright.{room}").nope


def test_nothing_is_imported_before_it_is_asked_for():
    program = (
        "import sys, llmwright.data as room\n"
        "assert 'llmwright.data.records' not in sys.modules\n"
        "from llmwright.data import read_questions\n"
        "assert read_questions.__module__ == 'llmwright.data.records'\n"
        "assert 'llmwright.data.documents' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_home_that_lacks_the_name_says_so():
    with pytest.raises(AttributeError, match=r"^module 'email' has no attribute 'formatdate'$"):
        lazy_exports("email", {})("formatdate")
    with pytest.raises(AttributeError, match="nothing_like_this"):
        lazy_exports("email", {"nothing_like_this": "utils"})("nothing_like_this")


def test_the_example():
    assert doctest.testmod(llmwright.core.lazy).failed == 0
