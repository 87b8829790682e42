"""Reading with errors that name the line, writing so that nothing finished is lost.

A file or folder is written under a temporary name beside its target and renamed when whole:
whoever opens the target finds the old state or the new one, never half of either.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from llmwright.core.errors import InputError


@contextmanager
def _explained(path: Path, what: str, fix: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str):  # of another place, which the block went to as well
            place, here = Path(error.filename).absolute(), path.absolute()
            if not (here.is_relative_to(place) or place.is_relative_to(here.parent)):
                raise
        raise InputError(f"{what} ({error.strerror or error})", where=str(path), fix=fix) from error


def reading(path: Path) -> AbstractContextManager[None]:
    """Say which file it was when the system does not let the block read ``path``: an ``OSError``
    becomes an ``InputError``."""
    return _explained(path, "cannot be read", "check the path and its permissions")


def writing(
    path: Path, fix: str = "choose a folder you may write to, with enough space left"
) -> AbstractContextManager[None]:
    """Say where, and the way out, when the system does not let the block write ``path``: an
    ``OSError`` becomes an ``InputError``, unless it names a file elsewhere."""
    return _explained(path, "cannot write here", fix)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path to write; rename it onto ``path`` when the block ends well."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder; rename it to ``path`` when the block ends well.

    An existing folder at ``path`` is replaced, and removed only after the new one stands.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        old = temporary.with_name(temporary.name + ".old")
        try:
            yield temporary
            temporary.chmod(0o755)
            if path.exists():
                path.replace(old)
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what writes that were killed left below a folder: temporary files and folders of
    ``atomic_write`` and ``atomic_folder``. For whoever owns the folder alone."""
    for path in sorted(folder.rglob(".*")):
        if re.fullmatch(r"\..+\.[a-z0-9_]{8}(\.old)?", path.name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """Read a UTF-8 file; a byte order mark is dropped.

    Raises ``InputError`` where the file is missing, unreadable or not UTF-8 (with the line).
    """
    with reading(path):
        raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"byte 0x{raw[error.start]:02x} is not UTF-8",
            where=f"{path}, line {line}",
            fix="save the file as UTF-8",
        ) from error


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises ``InputError`` with line and column where it is broken."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"not valid JSON: {error.msg}",
            where=f"{path}, line {error.lineno}",
            fix=f"look at column {error.colno}",
        ) from error


_KINDS = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}


def kind_of(value: Any) -> str:
    """What a value of JSON or TOML is, in words: "a text", "an object", "true", "null"."""
    return _KINDS.get(type(value)) or json.dumps(value, default=str)


def read_jsonl(path: Path, *texts: str) -> list[dict[str, Any]]:
    """Read a JSONL file of objects; blank lines are passed over.

    ``texts`` names the fields that every record must hold as text. Raises ``InputError`` with the
    number of the first line that is broken, or where there is no record at all.
    """
    return [record for _, record in read_located_jsonl(path, *texts)]


def read_located_jsonl(path: Path, *texts: str) -> list[tuple[str, dict[str, Any]]]:
    """``read_jsonl`` with where each record stands (file and line), for errors found later."""
    records = []
    # Not str.splitlines: U+2028, U+0085 and form feeds may stand unescaped inside a JSON string.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"not valid JSON: {error.msg}",
                where=where,
                fix="each line must hold one whole JSON object",
            ) from error
        if not isinstance(record, dict):
            raise InputError(
                f"holds {kind_of(record)}", where=where, fix="each line must hold one JSON object"
            )
        for name in texts:
            if not isinstance(record.get(name), str):
                said = f"is {kind_of(record[name])}" if name in record else "is missing"
                raise InputError(f"the field {name!r} {said}", where=where, fix="it must be a text")
        records.append((where, record))
    if not records:
        raise InputError("holds no record", where=str(path), fix="write one JSON object a line")
    return records


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def append_jsonl(path: Path, record: Mapping[str, Any]) -> None:
    """Add one record and flush it to disk: the way to keep each finished piece of a long run."""
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
