"""Content hashes: equal content, equal hash, on every machine.

All are SHA-256 in hexadecimal. A folder's hash covers the relative paths and bytes of its
files and nothing else, so times, owners and order of creation do not matter.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; the one text form that is hashed.

    Raises ``TypeError`` for values JSON cannot hold and ``ValueError`` for NaN and infinities.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def content_hash(value: Any) -> str:
    """Hash of bytes as they are, of text as UTF-8, of anything else as canonical JSON."""
    if isinstance(value, str):
        value = value.encode()
    elif not isinstance(value, bytes):
        value = canonical_json(value).encode()
    return hashlib.sha256(value).hexdigest()


def file_hash(path: Path) -> str:
    """Hash of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def tree_hash(path: Path) -> str:
    """Hash of a file, or of every file below a folder with its relative path."""
    if path.is_file():
        return file_hash(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return content_hash([[p.relative_to(path).as_posix(), file_hash(p)] for p in files])
