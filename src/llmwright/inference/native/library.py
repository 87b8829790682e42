"""The compiled kernels of this room (``core.CLibrary`` says how they are built and kept)."""

from __future__ import annotations

import ctypes
from pathlib import Path

from llmwright.core import CLibrary

_POINTER, _LONG, _INTEGER = ctypes.c_void_p, ctypes.c_long, ctypes.c_int

KERNELS = CLibrary(
    Path(__file__).parent / "forward.c",
    (
        ("lw_pool_new", _POINTER, (_INTEGER,)),
        ("lw_pool_free", None, (_POINTER,)),
        ("lw_block_bytes", _LONG, (_POINTER,)),
        ("lw_scratch_bytes", _LONG, (_POINTER, _INTEGER, _LONG, _LONG, _LONG)),
        ("lw_forward", None, (_POINTER, _POINTER, _POINTER, _LONG, _POINTER)),
        ("lw_lanes", _INTEGER, ()),
        ("lw_greedy", None, (_POINTER, _LONG, _LONG, _POINTER, _POINTER)),
        ("lw_advise", None, (_POINTER, _LONG)),
    ),
)

native_available = KERNELS.available
"""Whether ``NativeRunner`` works here: builds the kernels if they are not built yet."""
