"""Files and folders to documents, each with an id, a language and its sections.

Knows which ending belongs to which reader and how ids are made; knows nothing about formats.
A document's id is its path below the folder that was given, so the same folder gives the same
documents wherever it lies; the path of this machine enters nothing that is hashed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path, PurePosixPath

from llmwright.core import Document, InputError, MissingDependencyError, progress, reading
from llmwright.data.language import detect_language

Reader = Callable[[Path], Iterator[Document]]

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
_READABLE = f"endings read: {', '.join(_READERS)}"


def read_documents(
    paths: Sequence[Path], include: Sequence[str] = DEFAULT_INCLUDE
) -> Iterator[Document]:
    """Read files and folders (recursively, in sorted order, hidden ones left out).

    ``include`` filters what is found in folders: a pattern without a slash is held against file
    names, one with a slash against paths below the folder (``guide/**/*.md``). A file that is
    named itself is always read. Nothing in ``include`` means the default.

    Raises ``InputError`` where a path does not exist, nothing is found, a file cannot be read,
    or two documents get one id.
    """
    files = find_documents(paths, include)
    origin: dict[str, str] = {}  # where each id was seen first
    with progress("reading documents", total=len(files), unit="files") as advance:
        for identity, path in files:
            for found in _reader(path)(path):
                document = replace(
                    found,
                    id=found.id or identity,
                    source=identity,
                    language=found.language or detect_language(found.text),
                )
                if document.id in origin:
                    raise InputError(
                        f"the document id {document.id!r} is taken by {origin[document.id]}",
                        where=str(path),
                        fix="rename one of them, or give the folder above both",
                    )
                origin[document.id] = str(path)
                yield document
            advance(1)


def find_documents(
    paths: Sequence[Path], include: Sequence[str] = DEFAULT_INCLUDE
) -> list[tuple[str, Path]]:
    """The files that ``read_documents`` would read, with their ids, in its order. Reads none.

    Raises ``InputError`` where a path does not exist or nothing is found.
    """
    include = include or DEFAULT_INCLUDE
    patterns = [_pattern(glob) for glob in include]
    found: dict[tuple[str, Path], Path] = {}  # the same file given twice counts once
    for path in paths:
        if path.is_dir():
            inside = [
                (name, path / name)
                for name in sorted(_walk(path), key=lambda name: PurePosixPath(name).parts)
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


def _walk(folder: Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        with reading(Path(error.filename or folder)):
            raise error

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
    if "/" in glob:
        return lambda path: expression.fullmatch(path) is not None
    return lambda path: expression.fullmatch(PurePosixPath(path).name) is not None


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
