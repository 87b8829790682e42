"""What a command is pointed at: a release, or a part of one by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmwright.retrieval import Index


def is_release(folder: Path) -> bool:
    """Whether a release lies here; if not, it may be a model source or an index folder."""
    return (folder / "manifest.json").is_file()


def open_index(folder: Path) -> Index:
    """Open an index folder, or the index of a release."""
    from llmwright.retrieval import Index

    return Index.open(folder / "index" if is_release(folder) else folder)
