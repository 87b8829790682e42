"""The compiled kernels: built once per source, compiler flags and processor, and loaded.

The first use compiles ``forward.c`` with the system's C compiler into the cache folder of
``settings()``, which takes about ten seconds; later uses load that file. Its name carries the hash
of everything that goes into it. Two processes that build at once write the same file, each under
a name of its own and renamed when whole.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from llmwright.core import InputError, MissingDependencyError, atomic_write, progress, settings

_HERE = Path(__file__).parent
_FLAGS = ("-O2", "-march=native", "-std=gnu11", "-Wno-psabi", "-fno-math-errno", "-shared", "-fPIC")
_FIX = "install gcc or clang, or set LLMWRIGHT_NATIVE=0 to compute with PyTorch"
_loaded: ctypes.CDLL | None = None
_why_not: str | None = None
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Native:
    """Whether the kernels can be used; ``reason`` says why not. True or false as a condition."""

    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason


def native_available() -> Native:
    """Whether ``NativeRunner`` works here: builds the kernels if they are not built yet."""
    global _loaded, _why_not
    if not settings().native:
        return Native("it is switched off by LLMWRIGHT_NATIVE")
    with _lock:
        if _loaded is None and _why_not is None:
            try:
                _loaded = _load(_build())
            except (InputError, OSError, AttributeError, subprocess.SubprocessError) as error:
                _why_not = str(error)
        return Native(_why_not or "")


def library() -> ctypes.CDLL:
    """The loaded kernels. Raises ``MissingDependencyError`` where there are none."""
    available = native_available()
    if not available or _loaded is None:
        raise MissingDependencyError(
            f"the native kernels are not available: {available.reason}", fix=_FIX
        )
    return _loaded


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _build() -> Path:
    """Compile, unless the file is there."""
    command = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if command is None:
        raise InputError("there is no C compiler", fix=_FIX)
    sources = sorted([*_HERE.glob("*.h"), *_HERE.glob("*.c")])
    parts = [path.read_bytes() for path in sources]
    parts += [_processor().encode(), command.encode(), " ".join(_FLAGS).encode()]
    parts.append(platform.platform().encode())
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
    target = settings().cache / "native" / f"forward-{digest}.so"
    if target.is_file():
        return target
    with progress("compiling the kernels") as advance, atomic_write(target) as temporary:
        files = ["-o", str(temporary), str(_HERE / "forward.c"), "-lpthread", "-lm"]
        done = subprocess.run(  # noqa: S603  (the compiler, with our own source)
            [*command.split(), *_FLAGS, *files],
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            first = next((x for x in done.stderr.splitlines() if "error" in x), "no message")
            raise InputError(f"{command} cannot compile the kernels ({first.strip()})", fix=_FIX)
        advance(1)
    return target


def _load(path: Path) -> ctypes.CDLL:
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError:
        path.unlink(missing_ok=True)  # cut short or of another system: built anew next time
        raise
    pointer, long, integer = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
    for name, result, arguments in (
        ("lw_pool_new", pointer, (integer,)),
        ("lw_pool_free", None, (pointer,)),
        ("lw_block_bytes", long, (pointer,)),
        ("lw_scratch_bytes", long, (pointer, integer, long, long, long)),
        ("lw_forward", None, (pointer, pointer, pointer, long, pointer)),
        ("lw_lanes", integer, ()),
        ("lw_greedy", None, (pointer, long, long, pointer, pointer)),
        ("lw_advise", None, (pointer, long)),
    ):
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded
