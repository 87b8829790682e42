"""JSONL: one document a line, ``{"id", "text", "title"?, "language"?, ...}``.

The record's own id is kept, so that judgements and runs made elsewhere fit. Further fields that
are text, numbers or true/false become metadata; lists and objects are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmwright.core import Document, InputError, kind_of, read_located_jsonl

_OWN = ("id", "text", "title", "language")


def read_jsonl_documents(path: Path) -> Iterator[Document]:
    """Read documents. Raises ``InputError`` with the line where a record is broken, lacks
    ``id`` or ``text``, or repeats an id."""
    place_of: dict[str, str] = {}
    for where, record in read_located_jsonl(path, "id", "text"):
        identity = record["id"]
        if not identity.strip():
            raise InputError("the field 'id' is empty", where=where, fix="give each record an id")
        if identity in place_of:
            raise InputError(
                f"the id {identity!r} is taken by {place_of[identity]}",
                where=where,
                fix="give each record an id of its own",
            )
        place_of[identity] = where
        for name in ("title", "language"):
            if not isinstance(record.get(name, ""), str):
                raise InputError(
                    f"the field {name!r} is {kind_of(record[name])}",
                    where=where,
                    fix="it must be a text, or be left out",
                )
        yield Document(
            id=_clean(identity),
            text=_clean(record["text"]),
            title=_clean(record.get("title", "")),
            language=record.get("language", ""),
            metadata={k: _scalar(v) for k, v in record.items() if k not in _OWN and _is_scalar(v)},
        )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)  # bool is an int


def _scalar(value: Any) -> str:
    return _clean(value) if isinstance(value, str) else json.dumps(value)


def _clean(text: str) -> str:
    """Replace lone surrogates, which JSON can spell and no file can hold."""
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text
