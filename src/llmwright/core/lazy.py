"""Rooms whose names are fetched when first used (PEP 562), so that importing a room is cheap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` for ``package``: each name of ``homes`` from the submodule it lives in.

    The package imports the same names under ``TYPE_CHECKING``, where type checkers look, and lists
    them in ``__all__``; a test holds the three together. It assigns the function under ``if not
    TYPE_CHECKING``: to mypy, a module that has ``__getattr__`` has every name, misspelt ones too.

    >>> fetch = lazy_exports("email", {"formatdate": "utils"})
    >>> fetch("formatdate").__module__
    'email.utils'
    """

    def fetch(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return fetch
