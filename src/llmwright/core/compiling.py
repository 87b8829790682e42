"""C of our own: built once per source, compiler flags and processor, and loaded with ctypes.

The first use compiles the source with the system's C compiler into the cache folder of
``settings()``; later uses load that file. Its name carries the hash of everything that goes into
it. Two processes that build at once write the same file, each under a name of its own and
renamed when whole. Where there is no compiler, callers compute in another way: ``available`` says
so with the reason.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmwright.core.errors import InputError, MissingDependencyError
from llmwright.core.files import atomic_write
from llmwright.core.progress import progress
from llmwright.core.settings import native_allowed, settings

_FLAGS = ("-O2", "-march=native", "-std=gnu11", "-Wno-psabi", "-fno-math-errno", "-shared", "-fPIC")
_SHARED = Path(__file__).parent / "native"  # headers that several rooms use
_FIX = "install gcc or clang, or set LLMWRIGHT_NATIVE=0 to compute without it"

Signature = tuple[str, Any, tuple[Any, ...]]
"""The name of a C function, its result and its arguments as ctypes."""


@dataclass(frozen=True, slots=True)
class Native:
    """Whether compiled code can be used; ``reason`` says why not. True or false as a condition."""

    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason


class CLibrary:
    """One C file, with the headers beside it and in core/native, and compiler flags behind the
    usual ones. Safe to use from many threads."""

    def __init__(
        self, source: Path, functions: Sequence[Signature], flags: Sequence[str] = ()
    ) -> None:
        self._source = source
        self._functions = functions
        self._flags = (*_FLAGS, *flags)
        self._loaded: ctypes.CDLL | None = None
        self._why_not: str | None = None
        self._lock = threading.Lock()

    def available(self) -> Native:
        """Whether it works here: builds the file if that has not been done yet."""
        if not native_allowed():
            return Native("it is switched off by LLMWRIGHT_NATIVE")
        with self._lock:
            if self._loaded is None and self._why_not is None:
                try:
                    self._loaded = self._load(self.build())
                except (InputError, OSError, AttributeError, subprocess.SubprocessError) as error:
                    self._why_not = str(error)
            return Native(self._why_not or "")

    def load(self) -> ctypes.CDLL:
        """The functions. Raises ``MissingDependencyError`` where there are none."""
        available = self.available()
        if not available or self._loaded is None:
            raise MissingDependencyError(
                f"the compiled {self._source.stem} is not available: {available.reason}", fix=_FIX
            )
        return self._loaded

    def build(self) -> Path:
        """Compile, unless the file is there."""
        command = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
        if command is None:
            raise InputError("there is no C compiler", fix=_FIX)
        folders = (self._source.parent, _SHARED)
        sources = [self._source, *(h for folder in folders for h in sorted(folder.glob("*.h")))]
        parts = [path.read_bytes() for path in sources]
        parts += [_processor().encode(), command.encode(), " ".join(self._flags).encode()]
        parts.append(platform.platform().encode())
        digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
        name = self._source.stem
        target = settings().cache / "native" / f"{name}-{digest}.so"
        if target.is_file():
            return target
        with progress(f"compiling {name}") as advance, atomic_write(target) as temporary:
            files = [
                "-o",
                str(temporary),
                "-I",
                str(_SHARED),
                str(self._source),
                "-lpthread",
                "-lm",
            ]
            done = subprocess.run(  # noqa: S603  (the compiler, with our own source)
                [*command.split(), *self._flags, *files],
                capture_output=True,
                text=True,
                timeout=600,
            )
            if done.returncode:
                first = next((x for x in done.stderr.splitlines() if "error" in x), "no message")
                raise InputError(f"{command} cannot compile {name} ({first.strip()})", fix=_FIX)
            advance(1)
        return target

    def _load(self, path: Path) -> ctypes.CDLL:
        try:
            loaded = ctypes.CDLL(str(path))
        except OSError:
            path.unlink(missing_ok=True)  # cut short or of another system: built anew next time
            raise
        for name, result, arguments in self._functions:
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
        return loaded


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
