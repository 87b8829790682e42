"""Files and folders to documents, each with an id, a language and its sections.

Knows which ending belongs to which reader and how ids are made; knows nothing about formats.
A document's id is its path below the folder that was given, so the same folder gives the same
documents wherever it lies; the path of this machine enters nothing that is hashed.

One file that cannot be read need not lose the others: who gives ``on_error`` is told of each such
file, and the rest is read. A file is read whole or not at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path, PurePosixPath

from llmwright.core import (
    Document,
    InputError,
    LLMwrightError,
    MissingDependencyError,
    progress,
    reading,
)
from llmwright.data.language import detect_language

Reader = Callable[[Path], Iterator[Document]]
OnError = Callable[[LLMwrightError], None]

# Ending: module below readers/, function. Imported when the first such file is met.
_READERS = {
    ".md": ("markdown", "read_markdown"),
    ".markdown": ("markdown", "read_markdown"),
    ".txt": ("text", "read_plain_text"),
    ".text": ("text", "read_plain_text"),
    ".html": ("html", "read_html"),
    ".htm": ("html", "read_html"),
    ".pdf": ("pdf", "read_pdf"),
    ".docx": ("docx", "read_docx"),
    ".jsonl": ("jsonl", "read_jsonl_documents"),
}
DEFAULT_INCLUDE = tuple(f"*{ending}" for ending in _READERS)
# Source code is read where it is asked for: a folder of documents may hold scripts beside them.
_CODE = """.py .pyi .js .mjs .jsx .ts .tsx .java .kt .swift .cs .c .h .cc .cpp .hpp .rs .go
    .sh""".split()  # noqa: SIM905
_READERS.update(dict.fromkeys(_CODE, ("text", "read_plain_text")))
_READABLE = (
    f"endings read: {', '.join(i[1:] for i in DEFAULT_INCLUDE)}; and, where named, source code"
)


def read_documents(
    paths: Sequence[Path],
    include: Sequence[str] = DEFAULT_INCLUDE,
    *,
    on_error: OnError | None = None,
) -> Iterator[Document]:
    """Read files and folders (recursively, in sorted order, hidden ones left out).

    ``include`` filters what is found in folders: a pattern without a slash is held against file
    names, one with a slash against paths below the folder (``guide/**/*.md``). A file that is
    named itself is always read. Nothing in ``include`` means the default. ``on_error`` is given
    what is wrong with a file, a folder or an id; that one is left out and the rest is read.

    Raises ``InputError`` where a path does not exist or nothing is found, and without ``on_error``
    where a file cannot be read or two documents get one id.
    """
    files = find_documents(paths, include, on_error=on_error)
    origin: dict[str, str] = {}  # where each id was seen first
    with progress("reading documents", total=len(files), unit="files") as advance:
        for identity, path in files:
            for found in _read(path, on_error):
                document = replace(
                    found,
                    id=found.id or identity,
                    source=identity,
                    language=found.language or detect_language(found.text),
                )
                if document.id in origin:
                    error = InputError(
                        f"the document id {document.id!r} is taken by {origin[document.id]}",
                        where=str(path),
                        fix="rename one of them, or give the folder above both",
                    )
                    if on_error is None:
                        raise error
                    on_error(error)
                    continue
                origin[document.id] = str(path)
                yield document
            advance(1)


def _read(path: Path, on_error: OnError | None) -> Iterator[Document]:
    if on_error is None:
        yield from _reader(path)(path)
        return
    try:
        found = list(_reader(path)(path))
    except LLMwrightError as error:
        on_error(error)
    else:
        yield from found


def find_documents(
    paths: Sequence[Path],
    include: Sequence[str] = DEFAULT_INCLUDE,
    *,
    on_error: OnError | None = None,
) -> list[tuple[str, Path]]:
    """The files that ``read_documents`` would read, with their ids, in its order. Reads none.
    ``on_error`` is told of folders that may not be looked into.

    Raises ``InputError`` where a path does not exist or nothing is found.
    """
    include = include or DEFAULT_INCLUDE
    patterns = [_pattern(glob) for glob in include]
    found: dict[tuple[str, Path], Path] = {}  # the same file given twice counts once
    for path in paths:
        if path.is_dir():
            inside = [
                (name, path / name)
                for name in sorted(
                    _walk(path, on_error), key=lambda name: PurePosixPath(name).parts
                )
                if _ending(name) in _READERS and any(match(name) for match in patterns)
            ]
            if not inside:
                raise InputError(
                    f"holds no document that matches {', '.join(include)}",
                    where=str(path),
                    fix=_READABLE,
                )
        elif path.exists():
            if _ending(path.name) not in _READERS:
                raise InputError(
                    f"files of the kind {_ending(path.name) or path.name!r} are not read",
                    where=str(path),
                    fix=_READABLE,
                )
            inside = [(path.name, path)]
        else:
            raise InputError("does not exist", where=str(path), fix="check the path")
        for identity, file in inside:
            found.setdefault((identity, file.resolve()), file)
    if not found:
        raise InputError("no documents are named", fix="give at least one file or folder")
    return [(identity, file) for (identity, _), file in found.items()]


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _walk(folder: Path, on_error: OnError | None) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        try:
            with reading(Path(error.filename or folder)):
                raise error
        except InputError as explained:
            if on_error is None:
                raise
            on_error(explained)

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder)
        yield from ((below / name).as_posix() for name in names if not name.startswith("."))


def _pattern(glob: str) -> Callable[[str], bool]:
    """A test for paths below a folder. Case does not count: ``*.md`` finds ``README.MD``."""
    ending = _ending(glob)
    if re.fullmatch(r"\.\w+", ending) and ending not in _READERS:
        raise InputError(f"the pattern {glob!r} asks for files that are not read", fix=_READABLE)
    # fnmatch knows no "**" and lets "*" cross slashes, hence an expression of our own.
    wild = {"**/": r"(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    expression = re.compile("".join(wild.get(p) or re.escape(p) for p in pieces), re.IGNORECASE)
    code = ending in _CODE

    def match(path: str) -> bool:
        name = path if "/" in glob else PurePosixPath(path).name
        return expression.fullmatch(name) is not None and (code or _ending(path) not in _CODE)

    return match


def _reader(path: Path) -> Reader:
    module, function = _READERS[_ending(path.name)]
    try:
        reader: Reader = getattr(import_module(f"llmwright.data.readers.{module}"), function)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"reading {_ending(path.name)} files needs the package {error.name!r}",
            where=str(path),
            fix="install it with: pip install 'llmwright[rag]'",
        ) from error
    return reader
